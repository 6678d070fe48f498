"""What people read: each module prints the results of one subject. Nothing here computes, and nothing here decides a
byte of an artifact.
"""
