"""The style sheet of the report: one column, light and dark, readable on a telephone and on paper."""

CSS = """
:root{color-scheme:light dark;--paper:#fbfaf7;--card:#fff;--ink:#211f1c;--soft:#6d6861;--line:#e3dfd7;
--accent:#c23b22;
--second:#2f6f8f;--third:#8a6d1f;--n:#b9b4ab;--r:#7ba0b4;--sr:#5f9a6b;--ssr:#8f63b5;--ur:#d99a1c}
@media (prefers-color-scheme:dark){:root{--paper:#161513;--card:#1f1d1a;--ink:#ece8e0;--soft:#a39c91;--line:#35322d;
--accent:#ef7a5f;--second:#7fb6d1;--third:#d9b95a;--n:#5d5952;--r:#5d8ba3;--sr:#6fae7c;--ssr:#ad86d1;--ur:#e9b347}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);font:17px/1.6 "Iowan Old Style","Palatino Linotype",Palatino,
"Source Serif 4",Georgia,"Hiragino Mincho ProN","Noto Serif CJK JP",serif;font-kerning:normal;
text-rendering:optimizeLegibility}
main{max-width:66rem;margin:0 auto;padding:clamp(1.2rem,4vw,4rem) clamp(1rem,4vw,2.5rem)}
h1{font-size:clamp(2rem,6vw,3.4rem);line-height:1.08;letter-spacing:-.018em;font-weight:600;margin:.1em 0 .35em;
text-wrap:balance}
h2{font-size:1.5rem;line-height:1.25;font-weight:600;letter-spacing:-.01em;margin:3.4rem 0 .6rem;padding-top:1.1rem;
border-top:1px solid var(--line)}
h3{font-size:1.05rem;margin:1.6rem 0 .3rem;font-weight:600}
p{margin:.4rem 0 .9rem;max-width:42rem;text-wrap:pretty}
.lead{font-size:1.16rem;color:var(--soft)}
.kicker,table,.facts,figcaption,.legend,.chip,code,footer,.tick,summary,svg{font-family:system-ui,-apple-system,
"Segoe UI",
Roboto,"Hiragino Sans","Noto Sans CJK JP",sans-serif}
.kicker{font-size:.82rem;letter-spacing:.09em;text-transform:uppercase;color:var(--accent);margin:0}
.small,figcaption,.legend,footer{font-size:.86rem;color:var(--soft);line-height:1.5}
.facts{display:flex;flex-wrap:wrap;gap:1px;background:var(--line);
border:1px solid var(--line);border-radius:12px;overflow:hidden;margin:1.8rem 0 .8rem}
.facts div{flex:1 1 14rem;background:var(--card);padding:1rem 1.1rem 1.05rem}
.facts dt{font-size:.8rem;color:var(--soft)}
.facts dd{margin:.1rem 0 0;font-size:1.85rem;line-height:1.15;font-weight:600;letter-spacing:-.02em;
font-variant-numeric:tabular-nums lining-nums}
.facts small{display:block;font-size:.8rem;font-weight:400;letter-spacing:0;color:var(--soft);margin-top:.25rem}
.verdict{border-left:3px solid var(--accent);padding:.1rem 0 .1rem 1rem;margin:1.2rem 0}
.verdict p{margin:.2rem 0}
.pairs{display:grid;gap:.5rem .7rem;align-items:center;justify-content:start;margin:1.2rem 0;overflow-x:auto}
.pairs .tick{font-size:.82rem;color:var(--soft);line-height:1.35;hyphens:auto}
.pairs .head{font-weight:600;color:var(--ink)}
img{display:block;width:100%;height:auto;border-radius:6px;background:var(--line);image-rendering:auto}
.sheets{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,19rem),1fr));gap:1.4rem}
.sheet{display:grid;grid-template-columns:repeat(8,1fr);gap:3px}
.sheet img{border-radius:3px}
.g{border:2px solid var(--line)}.g1{border-color:var(--n)}.g2{border-color:var(--r)}.g3{border-color:var(--sr)}
.g4{border-color:var(--ssr)}.g5{border-color:var(--ur)}
figure{margin:1rem 0}
figcaption{margin:.45rem 0 0}
figcaption b{color:var(--ink);font-weight:600}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,25rem),1fr));gap:1.2rem 2rem}
.charts figure{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:1rem 1rem .9rem;
margin:0}
svg{display:block;width:100%;height:auto;overflow:visible}
.scroll{overflow-x:auto;margin:1rem 0}
table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums lining-nums;
line-height:1.45}
th,td{text-align:left;vertical-align:top;padding:.5rem .9rem .5rem 0;border-bottom:1px solid var(--line)}
th{font-weight:600;color:var(--soft);font-size:.8rem;white-space:nowrap}
td.n,th.n{text-align:right;white-space:nowrap}
td.why{min-width:15rem}
.chip{display:inline-block;font-size:.78rem;padding:.05rem .55rem;border-radius:99px;border:1px solid var(--line);
white-space:nowrap;color:var(--soft)}
.chip.promote{border-color:var(--sr);color:var(--sr)}.chip.halt{border-color:var(--accent);color:var(--accent)}
.legend span{display:inline-flex;align-items:center;gap:.35rem;margin-right:.9rem}
.legend i{width:.8rem;height:.8rem;border-radius:3px;display:inline-block}
.reasons{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,15rem),1fr));gap:1.1rem 1.6rem;
margin:1rem 0}
.reasons h4{margin:0 0 .45rem;font:600 .88rem/1.4 system-ui,-apple-system,"Segoe UI","Hiragino Sans",sans-serif}
.reasons h4 b{font-size:1.15rem;margin-right:.45rem}
.strip{display:grid;grid-template-columns:repeat(6,1fr);gap:4px}
.bar{height:.5rem;border-radius:99px;background:var(--accent);opacity:.75;min-width:2px}
code{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:.86rem}
pre{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:.9rem 1.1rem;overflow-x:auto;
margin:.8rem 0}
details{margin:1rem 0}
summary{cursor:pointer;color:var(--soft);font-size:.9rem}
ul{padding-left:1.15rem;max-width:42rem}
li{margin:.35rem 0}
footer{margin-top:4rem;padding-top:1rem;border-top:1px solid var(--line)}
@media (max-width:34rem){.facts div{flex-basis:9rem}}
.charts.one{grid-template-columns:minmax(0,40rem)}
td.wide{width:45%}
.blind{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,15rem),1fr));gap:1rem;margin:1rem 0}
.duel{display:grid;grid-template-columns:1.6rem 1fr 1fr;gap:.4rem;align-items:start;font-size:.86rem;color:var(--soft)}
.duel b{color:var(--ink)}
.strange{display:grid;grid-template-columns:repeat(auto-fill,minmax(6.2rem,1fr));gap:.8rem}
.strange figure{margin:0}
.node rect{fill:var(--card);stroke:var(--line)}
.node text{fill:var(--ink);font-size:14px}
.node.served rect{fill:var(--accent);stroke:var(--accent)}.node.served text{fill:var(--paper)}
.node.halt rect,.node.keep rect,.node.unfinished rect{stroke-dasharray:4 4}
.small-facts div{flex-basis:9rem}.small-facts dd{font-size:1.2rem}
@media print{body{font-size:11pt}h2{break-after:avoid}figure,.sheet,.facts{break-inside:avoid}details{display:none}}
"""
