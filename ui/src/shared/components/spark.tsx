/** Runs by the hour as small bars, the failed ones of them in red. */
export function Spark({ ended, failed, label }: { ended: number[]; failed: number[]; label: string }) {
  const most = Math.max(1, ...ended);
  const width = 100 / ended.length;
  return (
    <svg className="spark" viewBox="0 0 100 20" preserveAspectRatio="none" role="img" aria-label={label}>
      {ended.map((count, hour) => {
        const height = count === 0 ? 0.7 : Math.max(1.5, (count / most) * 20);
        const bad = count === 0 ? 0 : ((failed[hour] ?? 0) / count) * height;
        const x = hour * width + width * 0.12;
        return (
          <g key={hour}>
            <rect x={x} y={20 - height} width={width * 0.76} height={height} fill="var(--slate-6)" />
            <rect x={x} y={20 - bad} width={width * 0.76} height={bad} fill="var(--bad)" />
          </g>
        );
      })}
    </svg>
  );
}
