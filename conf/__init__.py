"""The groups of settings. Composed by `enginewright configure`; in the wheel this folder is `enginewright.conf`."""
