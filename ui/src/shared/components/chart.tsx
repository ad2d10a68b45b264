/** A chart over time: lines or stacked areas, with the values under the pointer. Drawn by uPlot, which is loaded when needed. */
import { useEffect, useRef } from "react";
import uPlot from "uplot";

import "uplot/dist/uPlot.min.css";
import "./chart.css";

export interface Series {
  label: string;
  /** A CSS variable, such as `--ok`. */
  colour: string;
  values: (number | null)[];
}

interface Props {
  title: string;
  at: number[];
  series: Series[];
  format: (value: number) => string;
  height?: number;
  /** Told of a time (ms) that was chosen by dragging over the chart. */
  onZoom?: (since: number, until: number) => void;
}

const PADDING = 8;

function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function options(props: Props, width: number): uPlot.Options {
  const { series, format, height = 180, onZoom } = props;
  const grid = { stroke: colour("--slate-4"), width: 1 };
  const axis = { stroke: colour("--slate-11"), grid, ticks: { show: false }, font: "11px system-ui" };
  return {
    width,
    height,
    padding: [PADDING, PADDING, 0, 0],
    legend: { live: true },
    cursor: { drag: { x: onZoom !== undefined, y: false }, points: { size: 6 } },
    hooks: {
      setSelect: [
        (plot) => {
          if (onZoom === undefined || plot.select.width < PADDING) return;
          const since = plot.posToVal(plot.select.left, "x");
          const until = plot.posToVal(plot.select.left + plot.select.width, "x");
          onZoom(Math.round(since * 1000), Math.round(until * 1000));
        },
      ],
    },
    axes: [
      { ...axis, space: 70, values: (plot, splits) => splits.map((at) => tick(at, plot)) },
      { ...axis, size: 58, values: (_, splits) => splits.map((value) => format(value)) },
    ],
    scales: { y: { range: (_, __, max) => [0, max > 0 ? max * 1.1 : 1] } },
    series: [
      { label: "Time", value: (_: uPlot, at: number | null) => (at === null ? "–" : `${DATE.format(at * 1000)} ${CLOCK.format(at * 1000)}`) },
      ...series.map((one) => ({
        label: one.label,
        stroke: colour(one.colour),
        fill: `${colour(one.colour)}22`,
        width: 1.5,
        // A value between two that are missing is a point, or it would not be seen.
        points: { size: 5, filter: alone },
        value: (_: uPlot, value: number | null) => (value === null ? "–" : format(value)),
      })),
    ],
  };
}

const DAY_S = 86_400;
const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const DATE = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

/** A mark of the time axis: the time of day, or the date where the chart is longer than two days. */
function tick(at: number, plot: uPlot): string {
  const { min = 0, max = 0 } = plot.scales["x"] ?? {};
  return (max - min > 2 * DAY_S ? DATE : CLOCK).format(at * 1000);
}

function alone(plot: uPlot, line: number): number[] {
  const values = plot.data[line] ?? [];
  const found: number[] = [];
  for (let index = 0; index < values.length; index++) {
    if (values[index] != null && values[index - 1] == null && values[index + 1] == null) found.push(index);
  }
  return found;
}

export default function Chart(props: Props) {
  const { title, at, series } = props;
  const box = useRef<HTMLDivElement>(null);
  const latest = useRef(props);
  useEffect(() => {
    latest.current = props;
  });
  const shape = series.map((one) => one.label + one.colour).join();
  const plot = useRef<uPlot>(undefined);
  useEffect(() => {
    const target = box.current;
    if (target === null) return undefined;
    const draw = (): void => {
      plot.current?.destroy();
      const { at: times, series: lines } = latest.current;
      const data: uPlot.AlignedData = [times.map((ms) => ms / 1000), ...lines.map((one) => one.values)];
      plot.current = new uPlot(options(latest.current, target.clientWidth), data, target);
    };
    draw();
    const size = new ResizeObserver(([entry]) => {
      const width = entry?.contentRect.width ?? 0;
      if (plot.current && Math.abs(plot.current.width - width) > 1) {
        plot.current.setSize({ width, height: plot.current.height });
      }
    });
    size.observe(target);
    // Colours are read once, so another theme needs another drawing.
    const theme = new MutationObserver(draw);
    theme.observe(document.documentElement, { attributes: true, attributeFilter: ["class"] });
    return () => {
      size.disconnect();
      theme.disconnect();
      plot.current?.destroy();
      plot.current = undefined;
    };
  }, [shape]);
  useEffect(() => {
    plot.current?.setData([at.map((ms) => ms / 1000), ...series.map((one) => one.values)]);
  }, [at, series]);
  return (
    <figure className="chart">
      <figcaption>{title}</figcaption>
      <div ref={box} role="img" aria-label={summary(props)} />
    </figure>
  );
}

/** What a chart shows, for who cannot see it: the newest value of each line, and the largest. */
function summary({ title, series, format }: Props): string {
  const lines = series.map((one) => {
    const known = one.values.filter((value): value is number => value !== null);
    const last = known.at(-1);
    if (last === undefined) return `${one.label}: nothing`;
    return `${one.label}: ${format(last)} now, ${format(Math.max(...known))} at most`;
  });
  return `${title}. ${lines.join("; ")}`;
}
