import { type KeyboardEvent, type SubmitEvent, useEffect, useId, useRef, useState } from "react";
import { BODY_BYTES, byteLength } from "../model/text.ts";
import { MOST_WAITING } from "../session/session.ts";
import { useSession } from "./hooks.ts";
import { Icon } from "./icons.tsx";

/** From here on the rest is shown. */
const SHOW_REST_BELOW = 500;

/** Where a message is written. The draft is kept with every key, per conversation. */
export function Composer({ conversationId }: { conversationId: string }) {
  const session = useSession();
  const input = useRef<HTMLTextAreaElement>(null);
  const noteId = useId();
  const [text, setText] = useState(() => session.draft(conversationId));
  const [full, setFull] = useState(false);
  const rest = BODY_BYTES - byteLength(text.trim());
  const sendable = text.trim() !== "" && rest >= 0;

  useEffect(() => {
    // On a touch screen this would bring up the keyboard unasked.
    if (!isTouch()) input.current?.focus();
  }, []);

  const change = (next: string) => {
    setText(next);
    session.keepDraft(conversationId, next);
  };
  const submit = (event: SubmitEvent | KeyboardEvent) => {
    event.preventDefault();
    if (!sendable) return;
    const sent = session.send(conversationId, text.trim());
    setFull(!sent);
    if (sent) change("");
    input.current?.focus();
  };

  return (
    <form className="composer" onSubmit={submit} aria-label="New message">
      <textarea
        ref={input}
        rows={1}
        dir="auto"
        aria-label="Message"
        aria-describedby={noteId}
        aria-invalid={rest < 0}
        placeholder="Write a message"
        value={text}
        onChange={(event) => {
          change(event.target.value);
        }}
        onKeyDown={(event) => {
          if (sends(event)) submit(event);
        }}
      />
      <button type="submit" className="primary square" aria-label="Send" disabled={!sendable}>
        <Icon name="send" />
      </button>
      <p id={noteId} className="composer-note" role="status">
        {full ? `${MOST_WAITING} messages are waiting to be sent already.` : restText(rest)}
      </p>
    </form>
  );
}

function restText(rest: number): string {
  if (rest < 0) return `${-rest} bytes too long.`;
  return rest < SHOW_REST_BELOW ? `${rest} bytes left.` : "";
}

/** Enter sends, except with Shift, inside an input method, or on a touch screen. */
function sends(event: KeyboardEvent): boolean {
  return event.key === "Enter" && !event.shiftKey && !event.nativeEvent.isComposing && !isTouch();
}

function isTouch(): boolean {
  return matchMedia("(pointer: coarse)").matches;
}
