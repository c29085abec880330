"""The report's style sheet: light and dark, wide and narrow, screen and print."""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #fcfcfa; --ink: #1f242b; --soft: #636b77; --rule: #dfe2e6; --track: #eceef0;
  --accent: #2563a8; --part: #86abd2; --tint: #d5e4f4; --code: #f3f4f5;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #15181c; --ink: #e4e7eb; --soft: #9aa3af; --rule: #323840; --track: #262b32;
    --accent: #6ea8e6; --part: #41698f; --tint: #24405e; --code: #1d2126;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink); font-variant-numeric: tabular-nums;
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", "DejaVu Sans", sans-serif;
}
main { max-width: 1180px; margin: 0 auto; padding: 28px clamp(14px, 3vw, 36px) 64px; }
h1 { font-size: 28px; line-height: 1.2; margin: 0 0 8px; }
h2 { font-size: 20px; margin: 44px 0 8px; }
h3 { font-size: 15px; margin: 26px 0 8px; }
p { margin: 0 0 12px; max-width: 80ch; }
header p { font-size: 17px; }
section > p, .absent { color: var(--soft); }
small { display: block; font-weight: 400; font-size: 12.5px; color: var(--soft); }

.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: 6px 10px; text-align: right; border-bottom: 1px solid var(--rule); }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
thead th { font-size: 12.5px; font-weight: 600; color: var(--soft); vertical-align: bottom; }
tbody th { font-weight: 500; }
.scores td:nth-child(2) { width: 40%; min-width: 84px; }
.scores th:last-child, .scores td:last-child { text-align: left; padding-left: 22px; }
.scores td.absent { text-align: left; }
.scores .step > * { border-top: 2px solid var(--rule); }
.scores .step th, .scores .step td:nth-child(3) { font-weight: 650; }
.scores tbody tr:not(.step) th { padding-left: 22px; }
.bar { display: block; width: 100%; height: 16px; }
tr:not(.step) .bar { height: 9px; }
.track { fill: var(--track); }
.value { fill: var(--accent); }
tr:not(.step) .value { fill: var(--part); }
.part_oracle .value { opacity: 0.6; }
.classes { table-layout: fixed; min-width: 440px; }
.classes th:first-child { width: 24%; }
.classes td {
  background: linear-gradient(var(--tint), var(--tint)) no-repeat 0 50%;
  background-size: calc(0.96 * var(--share, 0%)) calc(100% - 6px);
}
.classes tfoot th, .classes tfoot td { border-top: 2px solid var(--rule); font-weight: 650; }

.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(330px, 100%), 1fr)); gap: 14px 24px; }
.chart { width: 100%; max-width: 520px; }
.chart text { font-size: 11px; fill: var(--soft); }
.chart .title, .chart .last { font-size: 13px; fill: var(--ink); }
.chart .grid { stroke: var(--rule); }
.chart .curve { fill: none; stroke: var(--accent); stroke-width: 1.8; stroke-linejoin: round; }
.chart .end { fill: var(--accent); }

.chip { display: inline-block; white-space: nowrap; margin-right: 14px; }
.chip i {
  display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 6px;
  box-shadow: 0 0 0 1px var(--rule);
}
.chip i.ramp { width: 70px; }
.legend { max-width: none; }
.strip { margin: 0 0 18px; break-inside: avoid; }
.strip p { margin: 0 0 4px; max-width: none; font-size: 14px; color: var(--soft); }
.strip b { color: var(--ink); }
.strip .chip { margin: 0 12px 0 0; }
.strip .seen { margin-left: 10px; }
.short .seen { display: block; margin: 0; }
.panels { display: grid; gap: 6px; grid-auto-flow: column; grid-auto-columns: minmax(0, 1fr); }
.short { display: grid; gap: 4px 22px; grid-template-columns: repeat(auto-fill, minmax(min(330px, 100%), 1fr)); }
.short .panels { grid-template-columns: repeat(3, 1fr); }
figure { margin: 0; }
img { display: block; width: 100%; height: auto; border-radius: 3px; }
figcaption { font-size: 12px; color: var(--soft); text-align: center; margin-top: 2px; }

summary { cursor: pointer; }
pre, .hashes td:last-child { font: 12.5px/1.45 ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
pre { background: var(--code); padding: 14px; border-radius: 6px; overflow-x: auto; margin: 8px 0; }
.plain { width: auto; font-size: 13.5px; }
.plain th, .plain td { padding: 3px 18px 3px 0; text-align: left; }

@media screen and (max-width: 760px) {
  .panels { grid-auto-flow: row; grid-template-columns: repeat(4, 1fr); }
  th, td { padding: 6px; }
  .classes th, .classes td { padding: 6px 4px; }
  .classes th:first-child { width: 25%; padding-left: 0; }
  .classes thead th, .classes small { font-size: 11px; font-weight: 500; }
  .scores td:nth-child(2) { width: 22%; min-width: 60px; }
  .scores tbody tr:not(.step) th { padding-left: 12px; }
  .scores th:last-child, .scores td:last-child { padding-left: 10px; }
}
@media print {
  :root { --page: #fff; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  main { max-width: none; padding: 0; }
  h2, h3 { break-after: avoid; }
  tr, .chart { break-inside: avoid; }
  tfoot { display: table-row-group; }
  details::details-content { content-visibility: visible; height: auto; }
  pre { white-space: pre-wrap; }
}
"""
