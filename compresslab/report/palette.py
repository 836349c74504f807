"""The colours of pictures, each told apart by people who are colour-blind; the page gives each its dark counterpart."""

from __future__ import annotations

PAPER = "#ffffff"
INK = "#1b2733"
MUTED = "#5b6b7b"
GRID = "#e4e9ee"
FAINT = "#c3ccd5"
POINT = "#1769aa"
ACCENT = "#c2500a"
REFERENCE = "#6b4fa0"
CONTROL = "#1b7a5a"

DARK = {
    PAPER: "#12181f",
    INK: "#e6ebf0",
    MUTED: "#9dabb9",
    GRID: "#2a3540",
    FAINT: "#4a5866",
    POINT: "#5ab0f2",
    ACCENT: "#ff9d5c",
    REFERENCE: "#b9a1ea",
    CONTROL: "#62d0a6",
}
"""For each colour the one that stands for it on a dark page."""
