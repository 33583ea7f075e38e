"""Adapters: what lets a signal steer the backbone."""
