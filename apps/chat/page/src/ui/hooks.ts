import { createContext, use, useEffect, useState, useSyncExternalStore } from "react";
import type { ChatState } from "../model/chat.ts";
import type { Session } from "../session/session.ts";
import type { Store } from "../session/store.ts";
import { explain } from "../net/api.ts";

export const SessionContext = createContext<Session | null>(null);

export function useSession(): Session {
  const session = use(SessionContext);
  if (!session) throw new Error("There is no session here");
  return session;
}

export function useStore<Value>(store: Store<Value>): Value {
  return useSyncExternalStore(store.watch, store.get);
}

export function useChat(): ChatState {
  return useStore(useSession().chat);
}

/** Runs an action that may fail, one at a time: whether it runs, and what went wrong the last time. */
export function useAction(): { busy: boolean; error: string; run: (action: () => Promise<void>) => void } {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState("");
  const run = (action: () => Promise<void>) => {
    if (busy) return;
    setBusy(true);
    setError("");
    action()
      .catch((reason: unknown) => {
        setError(explain(reason));
      })
      .finally(() => {
        setBusy(false);
      });
  };
  return { busy, error, run };
}

/** The present, renewed now and then, so that "today" becomes "yesterday" at midnight. */
export function useNow(): number {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    const timer = setInterval(() => {
      setNow(Date.now());
    }, 60_000);
    return () => {
      clearInterval(timer);
    };
  }, []);
  return now;
}
