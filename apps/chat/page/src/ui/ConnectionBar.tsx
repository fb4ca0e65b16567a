import type { ConnectionState } from "../net/connection.ts";
import { useSession, useStore } from "./hooks.ts";

const WORDS = {
  connecting: "Connecting…",
  waiting: "Not connected. Trying again…",
  stopped: "Not connected.",
} as const;

/** Says when the page isn't connected; while it is, the sidebar's small mark is enough. */
export function ConnectionBar() {
  const session = useSession();
  const connection = useStore(session.connectionState);
  const loadState = useStore(session.loadState);
  const text = loadState === "failed" ? "The server cannot be reached. Trying again…" : words(connection);
  const canRetry = loadState === "failed" || connection === "waiting";
  return (
    <div className="connection-bar" role="status">
      {text && (
        <p>
          {text}
          {canRetry && (
            <button
              type="button"
              className="link"
              onClick={() => {
                session.retryNow();
              }}
            >
              Try now
            </button>
          )}
        </p>
      )}
    </div>
  );
}

function words(state: ConnectionState): string {
  // That the login has expired is said where it can be renewed.
  return state === "online" || state === "expired" ? "" : WORDS[state];
}
