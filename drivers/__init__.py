"""Drivers: from files to signals (speech, faces, motion)."""
