/// The style of a page. Colours of data are those of Okabe and Ito, which people with any colour
/// vision tell apart; no text has them.
enum PageStyle {
    static let text: StaticString = """

        :root {
          --paper: #ffffff; --sheet: #f5f6f8; --ink: #16191d; --quiet: #4d5661; --rule: #d5dae0;
          --grid: #e6e9ed; --link: #00548a;
          --blue: #0072b2; --sky: #56b4e9; --green: #009e73; --orange: #e69f00;
          --vermillion: #d55e00; --purple: #cc79a7; --yellow: #f0e442; --grey: #8a929c;
          --tint: 0.28;
        }
        @media screen and (prefers-color-scheme: dark) {
          :root {
            --paper: #14171b; --sheet: #1d2126; --ink: #eceff2; --quiet: #b3bcc6; --rule: #3a424b;
            --grid: #2a3037; --link: #8cc8f2; --blue: #3d9bd6; --grey: #98a1ab; --tint: 0.34;
          }
        }
        * { box-sizing: border-box; }
        html { color-scheme: light dark; -webkit-text-size-adjust: 100%; }
        body {
          margin: 0 auto; padding: 2rem 1rem 4rem; max-width: 60rem; background: var(--paper);
          color: var(--ink); font: 1rem/1.55 system-ui, sans-serif; overflow-wrap: anywhere;
        }
        a { color: var(--link); text-underline-offset: 0.2em; }
        :focus-visible { outline: 3px solid var(--link); outline-offset: 2px; border-radius: 2px; }
        main:focus { outline: none; }
        .skip { position: absolute; left: -100rem; }
        .skip:focus { left: 1rem; top: 0.5rem; background: var(--paper); padding: 0.5rem; }
        .kind { color: var(--quiet); margin: 0; }
        h1 { font-size: clamp(1.3rem, 1.1rem + 1vw, 1.75rem); line-height: 1.25; margin: 0.25rem 0 1.5rem;
          font-weight: 650; text-wrap: pretty; }
        h2 { font-size: 1.35rem; line-height: 1.3; margin: 3.5rem 0 1rem; padding-top: 1.25rem;
          border-top: 1px solid var(--rule); font-weight: 650; }
        h3 { font-size: 1.05rem; line-height: 1.35; margin: 2rem 0 0.25rem; font-weight: 650; }
        p { margin: 0.25rem 0 0.75rem; max-width: 46rem; text-wrap: pretty; }
        code { font-size: 0.92em; white-space: nowrap; }
        dl, dd, figure { margin: 0; }
        figure { margin: 0 0 2.75rem; }
        .summary, p.absent, .absent p, .basis, footer { color: var(--quiet); }
        .key-figures { display: grid; border: 1px solid var(--rule); border-radius: 8px;
          overflow: hidden; background: var(--sheet);
          grid-template-columns: repeat(auto-fit, minmax(max(9rem, 24%), 1fr)); }
        .key-figures div { padding: 0.7rem 0.9rem; box-shadow: 0 0 0 0.5px var(--rule); }
        .key-figures dt { color: var(--quiet); font-size: 0.84rem; line-height: 1.35; }
        .key-figures dd { font-size: 1.1rem; font-weight: 600; font-variant-numeric: tabular-nums;
          line-height: 1.35; }
        nav { display: flex; flex-wrap: wrap; gap: 0.25rem 1.25rem; margin-top: 1.25rem; }
        nav a { padding: 0.25rem 0; }
        .chart { display: block; width: 100%; height: auto; margin: 0.75rem 0 0.5rem; overflow: visible; }
        .chart.wide { display: none; }
        .chart.narrow { max-width: 30rem; }
        @media (min-width: 46rem) {
          .chart.wide { display: block; }
          .chart.narrow { display: none; }
        }
        .chart text { fill: var(--ink); font: 13px system-ui, sans-serif;
          font-variant-numeric: tabular-nums; }
        .chart.narrow text { font-size: 11.5px; }
        .chart .label { fill: var(--quiet); }
        .chart .panel-name { font-weight: 600; paint-order: stroke; stroke: var(--paper);
          stroke-width: 5px; stroke-linejoin: round; }
        .axis { stroke: var(--grey); stroke-width: 1; fill: none; }
        .grid { stroke: var(--grid); stroke-width: 1; fill: none; }
        .percentile { stroke: var(--ink); stroke-width: 1; stroke-dasharray: 2 3; fill: none; }
        .segment { stroke-width: 1; fill-opacity: var(--tint); }
        .chart .downtime { fill: var(--grey); fill-opacity: 0.28; }
        .chart .down { fill: var(--vermillion); }
        .line-sent, .line-received { fill: none; stroke-width: 2; stroke-linejoin: round; }
        .line-sent { stroke: var(--blue); }
        .line-received { stroke: var(--orange); stroke-dasharray: 5 3; }
        .area-waiting { fill: var(--purple); fill-opacity: 0.55; stroke: var(--purple); stroke-width: 1; }

        .status-setup, .status-other { --hue: var(--grey); }
        .status-active { --hue: var(--blue); }
        .status-device { --hue: var(--sky); }
        .status-postcopy { --hue: var(--green); }
        .status-paused { --hue: var(--vermillion); }
        .status-recover { --hue: var(--orange); }
        .status-completed { --hue: var(--ink); }
        .status-failed { --hue: var(--purple); }
        .bar-own, .bar-vcpu { --hue: var(--blue); }
        .bar-qemu, .bar-other { --hue: var(--orange); }
        .bar-overlapped { --hue: var(--vermillion); }
        .cause-down { --hue: var(--vermillion); }
        .cause-travel { --hue: var(--sky); }
        .cause-queue { --hue: var(--orange); }
        .cause-sending { --hue: var(--green); }
        .cause-background { --hue: var(--blue); }
        .cause-handler { --hue: var(--purple); }
        .cause-other { --hue: var(--grey); }
        .map-fault { --hue: var(--vermillion); }
        .map-urgent { --hue: var(--green); }
        .map-background { --hue: var(--blue); }
        .chart [class*="bar-"], .chart [class*="cause-"], .chart [class*="map-"] { fill: var(--hue); }
        .chart .segment { fill: var(--hue); stroke: var(--hue); }
        .chart .shade-1 { fill-opacity: 0.3; }
        .chart .shade-2 { fill-opacity: 0.5; }
        .chart .shade-3 { fill-opacity: 0.75; }

        .legend { list-style: none; margin: 0 0 0.5rem; padding: 0; display: flex; flex-wrap: wrap;
          gap: 0.3rem 1.25rem; font-size: 0.88rem; color: var(--quiet); }
        .legend li { display: flex; align-items: center; gap: 0.45rem; }
        .swatch { display: inline-block; width: 0.85rem; height: 0.85rem; border-radius: 2px; flex: none;
          background: var(--hue, var(--grey)); print-color-adjust: exact; }
        .swatch.down { background: var(--vermillion); }
        .swatch.downtime { background: var(--grey); opacity: 0.45; }
        .swatch.map-shades { width: 2.6rem; border: 1px solid var(--rule);
          background: linear-gradient(90deg, transparent, var(--grey)); }

        details { font-size: 0.92rem; }
        summary { cursor: pointer; color: var(--link); padding: 0.35rem 0; width: fit-content; }
        .scroll { overflow: auto; max-height: 30rem; border: 1px solid var(--rule); border-radius: 6px;
          position: relative; overflow-wrap: normal; }
        table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums;
          font-size: 0.88rem; line-height: 1.4; }
        caption { text-align: left; padding: 0.5rem 0.75rem; color: var(--quiet); }
        th, td { text-align: left; vertical-align: top; padding: 0.4rem 0.75rem;
          border-top: 1px solid var(--rule); font-weight: 400; }
        thead th { font-weight: 600; white-space: nowrap; }
        .number { text-align: right; white-space: nowrap; }
        .worst .word { min-width: 9rem; max-width: 16rem; overflow-wrap: anywhere; }
        .worst .parts { min-width: 15rem; }
        .stack { display: flex; height: 0.7rem; margin: 0.3rem 0; gap: 1px; }
        .stack span { background: var(--hue); min-width: 1px; print-color-adjust: exact; }

        .advice { padding: 0; list-style: none; display: grid; gap: 1rem; }
        .advice li { background: var(--sheet); border-radius: 8px; padding: 1rem 1.25rem;
          border-left: 4px solid var(--green); }
        .advice h3 { margin-top: 0; }
        .advice p:last-child { margin-bottom: 0; }
        .setting { display: grid; grid-template-columns: minmax(7rem, 11rem) 1fr; gap: 0.2rem 1rem;
          font-size: 0.94rem; }
        .setting dt { color: var(--quiet); }
        @media (max-width: 30rem) {
          .setting { grid-template-columns: 1fr; gap: 0; }
          .setting dd { margin-bottom: 0.5rem; }
        }
        footer { margin-top: 4rem; font-size: 0.88rem; border-top: 1px solid var(--rule);
          padding-top: 1rem; }

        @media (prefers-reduced-motion: no-preference) { html { scroll-behavior: smooth; } }
        @media print {
          html { font-size: 9.5pt; }
          body { max-width: none; padding: 0; }
          nav, .skip, figure details { display: none; }
          .chart.wide { display: block; }
          .chart.narrow { display: none; }
          .chart * { print-color-adjust: exact; }
          figure, .advice li { break-inside: avoid; }
          h2, h3 { break-after: avoid; }
          .scroll { overflow: visible; max-height: none; }
          .worst .word, .worst .parts { min-width: 0; }
          tr { break-inside: avoid; }
        }

        """
}
