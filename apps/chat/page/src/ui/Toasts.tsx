import { useSession, useStore } from "./hooks.ts";
import { Icon } from "./icons.tsx";

/** Toasts in view, and what screen readers should hear of new messages. */
export function Toasts() {
  const { toasts, announcement } = useSession();
  const shown = useStore(toasts.shown);
  const spoken = useStore(announcement);
  return (
    <>
      <div className="toasts" role="status" aria-live="polite" aria-label="Notifications">
        {shown.map(({ id, kind, text }) => (
          <div key={id} className="toast" data-kind={kind}>
            <Icon name={kind === "error" ? "warning" : "bell"} />
            <p dir="auto">{text}</p>
            <button
              type="button"
              className="ghost square"
              aria-label="Dismiss"
              onClick={() => {
                toasts.dismiss(id);
              }}
            >
              <Icon name="close" />
            </button>
          </div>
        ))}
      </div>
      <p className="unseen" aria-live="polite">
        {spoken}
      </p>
    </>
  );
}
