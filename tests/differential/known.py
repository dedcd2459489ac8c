"""Where two implementations may answer differently, and why that is right: each with its reason."""

from __future__ import annotations


def both_right(request, ours, other):
    """Whether this difference is one that is known."""
    return False
