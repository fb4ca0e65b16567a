import { useCallback, useEffect, useEffectEvent, useState } from "react";
import { explain } from "../../net/api.ts";

export type Loaded<Value> =
  { state: "loading" } | { state: "failed"; error: string; again: () => void } | { state: "ready"; value: Value };

/** Loads something once, and again on request. */
export function useLoaded<Value>(load: () => Promise<Value>): Loaded<Value> {
  const [loaded, setLoaded] = useState<Loaded<Value>>({ state: "loading" });
  const [attempt, setAttempt] = useState(0);
  const again = useCallback(() => {
    setLoaded({ state: "loading" });
    setAttempt((count) => count + 1);
  }, []);
  const begin = useEffectEvent(load);
  useEffect(() => {
    let wanted = true;
    const settle = (outcome: Loaded<Value>) => {
      if (wanted) setLoaded(outcome);
    };
    begin().then(
      (value) => {
        settle({ state: "ready", value });
      },
      (error: unknown) => {
        settle({ state: "failed", error: explain(error), again });
      },
    );
    return () => {
      wanted = false;
    };
  }, [attempt, again]);
  return loaded;
}
