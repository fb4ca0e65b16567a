import { type SubmitEvent, useId, useState } from "react";
import { listedPeople, personName } from "../../model/names.ts";
import type { Direction, Language, Trial, TrialInput } from "../../model/types.ts";
import { ApiError } from "../../net/api.ts";
import { ErrorText, Field } from "../controls.tsx";
import { textOf } from "../forms.ts";
import { useAction, useChat, useSession } from "../hooks.ts";

interface ScriptTrialProps {
  direction: Direction;
  language: Language;
  source: string;
  /** Told the line of an error, so that the editor can show it. */
  onLine: (line: number | null) => void;
}

/** Runs the script as it stands in the editor on one made-up message. Nothing is sent or saved by it. */
export function ScriptTrial({ direction, language, source, onLine }: ScriptTrialProps) {
  const { api, me } = useSession();
  const [trial, setTrial] = useState<Trial | null>(null);
  const { busy, error, run } = useAction();

  const submit = (event: SubmitEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    const messageBody = textOf(form, "body");
    const other = Number(form.get("other"));
    const input: TrialInput =
      direction === "outgoing"
        ? { messageBody, ownID: me, recipientIDs: [other] }
        : { messageBody, ownID: me, recipientIDs: [me], senderID: other };
    setTrial(null);
    run(async () => {
      onLine(null);
      try {
        const outcome = await api.tryScript(direction, language, source, input);
        setTrial(outcome);
        if (!outcome.ok) onLine(outcome.line ?? null);
      } catch (reason) {
        if (reason instanceof ApiError) onLine(reason.line);
        throw reason;
      }
    });
  };

  return (
    <form className="trial" onSubmit={submit} aria-label="Test run">
      <h2>Test run</h2>
      <div className="pair">
        <Field label="Sample message" name="body" dir="auto" required defaultValue="Hello! Is this urgent?" />
        <OtherChoice label={direction === "outgoing" ? "To" : "From"} />
      </div>
      <button type="submit" className="secondary" disabled={busy}>
        {busy ? "Running…" : "Run test"}
      </button>
      <ErrorText text={error} />
      <div role="status" aria-label="Test result">
        {trial && <Outcome trial={trial} />}
      </div>
    </form>
  );
}

function OtherChoice({ label }: { label: string }) {
  const id = useId();
  const state = useChat();
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      <select id={id} name="other">
        <option value={state.me}>Yourself</option>
        {listedPeople(state, "").map((person) => (
          <option key={person.id} value={person.id}>
            {personName(person, person.id)}
          </option>
        ))}
      </select>
    </div>
  );
}

const ERRORS: Record<string, string> = {
  fuel_exhausted: "The script ran too long and was stopped.",
  memory: "The script used too much memory and was stopped.",
  output_limit: "The script printed too much and was stopped.",
  recursion: "The script called itself too deeply and was stopped.",
  forbidden: "The script tried something that isn't allowed.",
  bad_result: "The script gave back something that can't be used.",
  script_error: "The script failed.",
};

function Outcome({ trial }: { trial: Trial }) {
  if (!trial.ok) {
    return (
      <div className="outcome" data-ok="false">
        <p className="error">
          {trial.line !== undefined && `Line ${trial.line}: `}
          {ERRORS[trial.error] ?? trial.error}
        </p>
        <pre tabIndex={0}>{trial.detail}</pre>
      </div>
    );
  }
  return (
    <div className="outcome" data-ok="true">
      <p>Result</p>
      <pre tabIndex={0}>{JSON.stringify(trial.result, null, 2)}</pre>
      {trial.output && (
        <>
          <p>Printed</p>
          <pre tabIndex={0}>{trial.output}</pre>
        </>
      )}
      <p className="quiet">{trial.fuelUsed.toLocaleString()} units of fuel used.</p>
    </div>
  );
}
