/** The few icons of the page: drawn with the text's colour, silent for screen readers. */

const PATHS = {
  back: "M12.5 4 6.5 10l6 6",
  send: "M4 10h11M10.5 5.5 15 10l-4.5 4.5",
  check: "m4.5 10.5 3.5 3.5 7.5-8",
  checks: "m2 10.5 3.5 3.5 7-8M9 13l1 1 7.5-8",
  clock: "M10 6v4l2.5 2M10 3a7 7 0 1 0 0 14 7 7 0 0 0 0-14Z",
  warning: "M10 7v4M10 13.6v.2M10 3 2.5 16.5h15Z",
  bell: "M5 13.5V9a5 5 0 0 1 10 0v4.5l1 1.5H4l1-1.5ZM8.5 17.5h3",
  settings: "M3 6h7M14 6h3M3 14h3M10 14h7M12 4v4M8 12v4",
  help: "M7.5 7.5a2.5 2.5 0 1 1 3.7 2.2c-.8.4-1.2.9-1.2 1.8M10 14.2v.2M10 2.5a7.5 7.5 0 1 0 0 15 7.5 7.5 0 0 0 0-15Z",
  leave: "M8 3.5H4.5v13H8M8 10h8.5M13.5 7l3 3-3 3",
  group: "M10 4v12M4 10h12",
  close: "m5 5 10 10M15 5 5 15",
  search: "M9 3.5a5.5 5.5 0 1 0 0 11 5.5 5.5 0 0 0 0-11ZM13 13l4 4",
  down: "M10 4v12M5 11l5 5 5-5",
} as const;

export function Icon({ name }: { name: keyof typeof PATHS }) {
  return (
    <svg className="icon" viewBox="0 0 20 20" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}
