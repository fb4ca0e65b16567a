import { useSession } from "../hooks.ts";
import { Loading } from "../controls.tsx";
import type { Direction } from "../../model/types.ts";
import { LoadFailed } from "./LoadFailed.tsx";
import { ScriptForm } from "./ScriptForm.tsx";
import { useLoaded } from "./useLoaded.ts";

export function ScriptSettings({ direction }: { direction: Direction }) {
  const session = useSession();
  const loaded = useLoaded(() => session.api.script(direction));
  if (loaded.state === "loading") return <Loading what="your script" />;
  if (loaded.state === "failed") return <LoadFailed {...loaded} />;
  return <ScriptForm direction={direction} initial={loaded.value} />;
}
