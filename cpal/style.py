"""The report's style sheet: light and dark, wide and narrow, screen and print."""

STYLE = """
:root { color-scheme: light dark; --page: #fcfcfa; --ink: #1f242b; --soft: #68707c; --rule: #dfe2e6; --track: #eceef0;
  --accent: #2563a8; --part: #86abd2; --tint: #d5e4f4; --code: #f3f4f5 }
@media (prefers-color-scheme: dark) { :root { --page: #15181c; --ink: #e4e7eb; --soft: #969fab; --rule: #323840;
  --track: #262b32; --accent: #6ea8e6; --part: #41698f; --tint: #24405e; --code: #1d2126 } }
* { box-sizing: border-box }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue",
  "Noto Sans", "DejaVu Sans", sans-serif; font-variant-numeric: tabular-nums }
main { max-width: 1180px; margin: 0 auto; padding: 28px clamp(14px, 3vw, 36px) 64px }
h1 { font-size: 28px; line-height: 1.2; margin: 0 0 6px } h2 { font-size: 20px; margin: 44px 0 8px }
h3 { font-size: 15px; margin: 26px 0 8px } p { margin: 0 0 12px; max-width: 78ch } header p { font-size: 17px; color: var(--soft) }
section > p, .absent { color: var(--soft) } small { display: block; font-weight: 400; font-size: 12.5px; color: var(--soft) }
.wide { overflow-x: auto } table { border-collapse: collapse; width: 100% }
th, td { padding: 6px 10px; text-align: right; border-bottom: 1px solid var(--rule) }
thead th { font-size: 12.5px; font-weight: 600; color: var(--soft); vertical-align: bottom }
th:first-child, td:first-child, .plain td, .plain th { text-align: left } tbody th { font-weight: 500 }
.scores td:nth-child(2) { width: 38%; min-width: 90px } .scores td:last-child { color: var(--soft) }
.step > * { font-weight: 650; border-top: 2px solid var(--rule) } .step td:last-child { font-weight: 400 }
.scores tbody .part th { padding-left: 26px }
.scores tbody .part th small { display: inline; margin-left: 8px }
.bar { display: block; width: 100%; height: 16px } .part .bar { height: 9px }
.track { fill: var(--track) } .value { fill: var(--accent) } .part .value { fill: var(--part) } .oracle .value { opacity: .6 }
.classes td { background: linear-gradient(to right, var(--tint) var(--share, 0%), transparent 0) no-repeat 0 3px / 100% calc(100% - 6px) }
.classes tfoot > tr > * { border-top: 2px solid var(--rule); font-weight: 650 }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(330px, 100%), 1fr)); gap: 14px 24px }
.chart { width: 100%; max-width: 520px } .chart text { font-size: 11px; fill: var(--soft) }
.chart .title, .chart .last { font-size: 13px; fill: var(--ink) } .grid { stroke: var(--rule) }
.curve { fill: none; stroke: var(--accent); stroke-width: 1.8; stroke-linejoin: round } .end { fill: var(--accent) }
.legend { max-width: none } .chip { display: inline-block; white-space: nowrap; margin-right: 14px }
.chip i { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 6px; box-shadow: 0 0 0 1px var(--rule) }
.chip .ramp { width: 70px } .strip { margin: 0 0 18px; break-inside: avoid } .strip p { margin: 0 0 4px; max-width: none; font-size: 14px; color: var(--soft) }
.strip b { color: var(--ink); margin-right: 8px } .strip .chip { margin: 0 0 0 10px }
.panels { display: grid; gap: 6px; grid-template-columns: repeat(7, 1fr) } figure { margin: 0 }
img { display: block; width: 100%; height: auto; border-radius: 3px } figcaption { font-size: 12px; color: var(--soft); text-align: center; margin-top: 2px }
.of1, .of2, .of3 { display: grid; gap: 4px 22px; grid-template-columns: repeat(auto-fill, minmax(min(330px, 100%), 1fr)) }
.of1 .panels, .of2 .panels, .of3 .panels { grid-template-columns: repeat(3, 1fr) }
pre { font: 12.5px/1.45 ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; background: var(--code); padding: 14px; border-radius: 6px; overflow-x: auto; margin: 8px 0 }
summary { cursor: pointer; margin-bottom: 10px } .plain { width: auto; font-size: 13.5px } .plain td:last-child { font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: 12.5px }
.plain th, .plain td { padding: 3px 18px 3px 0 }
@media (max-width: 760px) { .panels { grid-template-columns: repeat(4, 1fr) } th, td { padding: 6px 6px }
  .scores tbody .part th { padding-left: 14px } .scores tbody .part th small { display: block; margin: 0 } .scores td:nth-child(2) { width: 26% } }
@media print { * { print-color-adjust: exact; -webkit-print-color-adjust: exact } main { max-width: none; padding: 0 }
  h2, h3 { break-after: avoid } tr, .chart { break-inside: avoid } details::details-content { content-visibility: visible } pre { white-space: pre-wrap } }
"""
