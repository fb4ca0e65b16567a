import { type SubmitEvent, useId, useState } from "react";
import { BODY_BYTES, byteLength } from "../../model/text.ts";
import type { AutoReply } from "../../model/types.ts";
import { ErrorText, Loading, Switch } from "../controls.tsx";
import { useAction, useSession } from "../hooks.ts";
import { LoadFailed } from "./LoadFailed.tsx";
import { useLoaded } from "./useLoaded.ts";

export function AutoReplySettings() {
  const session = useSession();
  const loaded = useLoaded(() => session.api.autoReply());
  if (loaded.state === "loading") return <Loading what="your auto-reply" />;
  if (loaded.state === "failed") return <LoadFailed {...loaded} />;
  return <AutoReplyForm initial={loaded.value} />;
}

function AutoReplyForm({ initial }: { initial: AutoReply }) {
  const { api, me } = useSession();
  const textId = useId();
  const [saved, setSaved] = useState(initial);
  const [text, setText] = useState(initial.messageBody);
  const { busy, error, run } = useAction();
  const unsaved = text.trim() !== saved.messageBody;
  const tooLong = byteLength(text.trim()) > BODY_BYTES;

  const save = (event: SubmitEvent) => {
    event.preventDefault();
    run(async () => {
      setSaved(await api.setAutoReplyBody(me, text.trim()));
    });
  };
  const turn = (on: boolean) => {
    run(async () => {
      setSaved(await api.switchAutoReply(me, on));
    });
  };

  return (
    <form className="stack" onSubmit={save}>
      <p className="quiet">
        While this is on, everyone who writes to you gets this answer at once. Automatic answers are never answered
        automatically.
      </p>
      <Switch label="Answer automatically" on={saved.enabled} disabled={busy || !saved.messageBody} onChange={turn} />
      <div className="field">
        <label htmlFor={textId}>Answer</label>
        <textarea
          id={textId}
          rows={4}
          dir="auto"
          required
          aria-invalid={tooLong}
          value={text}
          onChange={(event) => {
            setText(event.target.value);
          }}
        />
      </div>
      <ErrorText text={tooLong ? "The answer is too long." : error} />
      <div className="row">
        <button type="submit" className="primary" disabled={busy || !unsaved || tooLong || !text.trim()}>
          Save answer
        </button>
        <p className="quiet" role="status">
          {!unsaved && saved.messageBody && "Saved."}
        </p>
      </div>
    </form>
  );
}
