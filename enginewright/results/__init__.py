"""What stages find out, as typed records: the terminal, DVC's metrics and whoever computes with figures read these.

Each record goes to JSON and comes back: `from_json(to_json())` is the record itself. They are imported from their own
modules, so that an edit of one makes the stages stale that make or read it, and no others.
"""
