import { type SubmitEvent, useState } from "react";
import { clockTime } from "../model/time.ts";
import { ErrorText, Field } from "./controls.tsx";
import { textOf } from "./forms.ts";
import { Dialog } from "./Dialog.tsx";
import { useAction, useSession, useStore } from "./hooks.ts";

/** Asks for the password when the login is about to end or has ended. Put off, it stays as a line that opens it again. */
export function Renew({ onLogOut }: { onLogOut: () => void }) {
  const session = useSession();
  const state = useStore(session.loginState);
  const { expiresAt } = useStore(session.login);
  const [choice, setChoice] = useState<{ state: string; open: boolean }>({ state: "valid", open: false });
  if (state === "valid") return null;
  const ended = state === "expired";
  const open = choice.state === state ? choice.open : ended;
  const show = (wanted: boolean) => {
    setChoice({ state, open: wanted });
  };
  const text = ended ? "Your session has ended." : `Your session ends at ${clockTime(expiresAt)}.`;
  if (open)
    return (
      <RenewDialog
        text={text}
        ended={ended}
        onClose={() => {
          show(false);
        }}
        onLogOut={onLogOut}
      />
    );
  return (
    <div className="renew-bar" role="status">
      {text}{" "}
      <button
        type="button"
        className="link"
        onClick={() => {
          show(true);
        }}
      >
        {ended ? "Log in again" : "Stay logged in"}
      </button>
    </div>
  );
}

function RenewDialog(props: { text: string; ended: boolean; onClose: () => void; onLogOut: () => void }) {
  const session = useSession();
  const { username } = useStore(session.login);
  const { busy, error, run } = useAction();
  const submit = (event: SubmitEvent<HTMLFormElement>) => {
    event.preventDefault();
    const password = textOf(new FormData(event.currentTarget), "password");
    run(() => session.renew(password));
  };
  return (
    <Dialog title={props.ended ? "Log in again" : "Stay logged in"} onClose={props.onClose}>
      <form className="stack" onSubmit={submit}>
        <p>{props.text} Nothing you have written is lost.</p>
        <input type="hidden" name="username" autoComplete="username" value={username} readOnly />
        <Field
          label={`Password of ${username}`}
          name="password"
          type="password"
          autoComplete="current-password"
          required
          maxLength={128}
        />
        <ErrorText text={error} />
        <div className="row end">
          <button type="button" className="secondary" onClick={props.onLogOut}>
            Log out
          </button>
          <button type="submit" className="primary" disabled={busy}>
            {props.ended ? "Log in again" : "Stay logged in"}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
