"""The look of report.html: readable in the light, in the dark, on a phone and on paper."""

from __future__ import annotations

from compresslab.report import palette

_PAGE = """
:root { color-scheme: light dark; --bad: #b3261e; --good: #1c7a3d; --unsure: #8a6100; --tint: #fdf1e8; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); line-height: 1.5;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; }
main { max-width: 82rem; margin: 0 auto; padding: 1rem clamp(1rem, 4vw, 2.5rem) 4rem; }
h1 { font-size: 1.5rem; margin: 0.5rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 0.75rem; padding-top: 0.75rem; border-top: 1px solid var(--grid); }
h3 { font-size: 1rem; margin: 1.25rem 0 0.25rem; }
p, li { max-width: 52rem; overflow-wrap: anywhere; }
.headline { font-size: 1.2rem; font-weight: 600; }
.badge { display: inline-block; padding: 0.1rem 0.6rem; border-radius: 1rem; font-size: 0.85rem; font-weight: 600;
  color: var(--paper); background: var(--muted); }
.badge.pass { background: var(--good); }
.badge.fail { background: var(--bad); }
.badge.inconclusive { background: var(--unsure); }
figure { margin: 1.5rem 0; }
figcaption, caption, .legend { color: var(--muted); font-size: 0.875rem; }
figcaption { max-width: 52rem; margin-top: 0.5rem; }
svg { display: block; width: 100%; height: auto; }
svg text { font-family: Arial, Helvetica, "Liberation Sans", sans-serif; }
svg.wide { max-width: 56rem; }
svg.narrow { display: none; max-width: 28rem; }
.panels { display: grid; gap: 1.5rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 19rem), 1fr)); }
svg.panel { max-width: 28rem; }
.better { color: var(--point); font-weight: 600; }
.worse { color: var(--accent); font-weight: 600; }
.scroll { overflow-x: auto; margin: 1rem 0; }
.scroll:focus-visible { outline: 2px solid var(--point); outline-offset: 2px; }
table { border-collapse: collapse; font-size: 0.8125rem; font-variant-numeric: tabular-nums; }
caption { caption-side: bottom; text-align: left; padding-top: 0.5rem; }
caption span { display: block; position: sticky; left: 0; max-width: min(52rem, 100vw - 2.5rem); }
th, td { padding: 0.35rem 0.5rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--grid); }
td { white-space: nowrap; }
td.prose { white-space: normal; min-width: 16rem; }
thead th { color: var(--muted); font-weight: 600; vertical-align: bottom; }
th[scope="row"] { font-weight: 600; position: sticky; left: 0; background: var(--paper);
  min-width: 8rem; max-width: 16rem; overflow-wrap: break-word; }
.number { text-align: right; }
.marks { letter-spacing: 0.15em; color: var(--accent); }
tr.selected td, tr.selected th[scope="row"] { background: var(--tint); }
tr.reference :is(td, th[scope="row"]), tr.control :is(td, th[scope="row"]) { font-style: italic; }
pre { overflow-x: auto; padding: 0.75rem; border: 1px solid var(--grid); border-radius: 0.4rem; font-size: 0.85rem; }
summary { cursor: pointer; padding: 0.2rem 0; overflow-wrap: anywhere; }
.hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
@media (max-width: 40rem) {
  svg.wide { display: none; }
  svg.narrow { display: block; }
}
"""

_PRINT = """
@media print {
  main { max-width: none; padding: 0; }
  .scroll { overflow: visible; }
  table { font-size: 0.6rem; }
  td { white-space: normal; }
  figure, tr { break-inside: avoid; }
}
"""

_NAMES = {
    palette.PAPER: "paper",
    palette.INK: "ink",
    palette.MUTED: "muted",
    palette.GRID: "grid",
    palette.FAINT: "faint",
    palette.POINT: "point",
    palette.ACCENT: "accent",
    palette.REFERENCE: "reference",
    palette.CONTROL: "control",
}


def _variables(colours: dict[str, str]) -> str:
    return "; ".join(f"--{_NAMES[light]}: {shown}" for light, shown in colours.items())


def _style() -> str:
    light = f":root {{ {_variables({colour: colour for colour in _NAMES})} }}"
    others = "--bad: #ff8a80; --good: #6fd08c; --unsure: #e8c05a; --tint: #2b2118"
    dark = f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {_variables(palette.DARK)}; {others} }} }}"
    # Pictures name their colours; these rules let them follow the page.
    repaint = "\n".join(
        f'svg [{kind}="{colour}"] {{ {kind}: var(--{name}) }}'
        for colour, name in _NAMES.items()
        for kind in ("fill", "stroke")
    )
    return f"{light}\n{_PAGE}{dark}\n{repaint}\n{_PRINT}"


STYLE = _style()
