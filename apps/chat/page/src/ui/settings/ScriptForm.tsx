import { type ChangeEvent, Suspense, lazy, useId, useState } from "react";
import { byteLength } from "../../model/text.ts";
import { fullTime } from "../../model/time.ts";
import { type Direction, LANGUAGES, type Language, type Script, type ScriptSource } from "../../model/types.ts";
import { ApiError } from "../../net/api.ts";
import { ErrorText, Loading, Switch } from "../controls.tsx";
import { useAction, useSession } from "../hooks.ts";
import { isSample, sample } from "./samples.ts";
import { ScriptTrial } from "./ScriptTrial.tsx";

const CodeEditor = lazy(() => import("./CodeEditor.tsx"));

/** The most a script may weigh, in bytes of UTF-8. */
const SCRIPT_BYTES = 65_536;

const ABOUT: Record<Direction, string> = {
  outgoing: "Runs on each message you send, before anybody gets it, and may change its text.",
  incoming: "Runs on each message you get, before you see it: it may let it through, drop it, or answer it.",
};

interface ScriptFormProps {
  direction: Direction;
  initial: ScriptSource | null;
}

export function ScriptForm({ direction, initial }: ScriptFormProps) {
  const script = useScript(direction, initial);
  const { saved, language, source, line, busy, unsaved, tooLong } = script;
  return (
    <div className="stack">
      <p className="quiet">{ABOUT[direction]}</p>
      <div className="row">
        <Switch label="Run this script" on={saved?.enabled ?? false} disabled={busy || !saved} onChange={script.turn} />
        <LanguageChoice language={language} onChoose={script.chooseLanguage} />
      </div>
      <Suspense fallback={<Loading what="the editor" />}>
        <CodeEditor source={source} language={language} line={line} onChange={script.edit} />
      </Suspense>
      <ErrorText text={tooLong ? "The script is larger than 64 KiB." : script.error} />
      <div className="row">
        <button type="button" className="primary" disabled={busy || !unsaved || tooLong} onClick={script.save}>
          Save script
        </button>
        <FileButton onText={script.edit} />
        {saved && (
          <button type="button" className="secondary" disabled={busy} onClick={script.remove}>
            Delete script
          </button>
        )}
        <p className="quiet" role="status">
          {saved && !unsaved ? `Saved ${fullTime(saved.updatedAt)}, ${saved.size} bytes.` : "Not saved."}
        </p>
      </div>
      <ScriptTrial direction={direction} language={language} source={source} onLine={script.setLine} />
    </div>
  );
}

/** The script being edited and what may be done with it. What isn't saved yet is kept like a draft. */
function useScript(direction: Direction, initial: ScriptSource | null) {
  const session = useSession();
  const { api } = session;
  const draftKey = `script.${direction}`;
  const { busy, error, run } = useAction();
  const [saved, setSaved] = useState<Script | null>(initial);
  const [savedSource, setSavedSource] = useState(initial?.source ?? null);
  const [language, setLanguage] = useState<Language>(initial?.language ?? "python");
  const [source, setSource] = useState(
    () => session.draft(draftKey) || (initial?.source ?? sample(direction, language)),
  );
  const [line, setLine] = useState<number | null>(null);

  const edit = (next: string) => {
    setSource(next);
    setLine(null);
    session.keepDraft(draftKey, next === savedSource || isSample(direction, next) ? "" : next);
  };
  const chooseLanguage = (next: Language) => {
    setLanguage(next);
    if (isSample(direction, source)) setSource(sample(direction, next));
  };
  const save = () => {
    setLine(null);
    run(async () => {
      try {
        setSaved(await api.saveScript(direction, language, source));
        setSavedSource(source);
        session.keepDraft(draftKey, "");
      } catch (reason) {
        if (reason instanceof ApiError) setLine(reason.line);
        throw reason;
      }
    });
  };
  const turn = (on: boolean) => {
    run(async () => {
      setSaved(await api.switchScript(direction, on));
    });
  };
  const remove = () => {
    run(async () => {
      await api.deleteScript(direction);
      setSaved(null);
      setSavedSource(null);
    });
  };
  const unsaved = source !== savedSource || language !== saved?.language;
  const tooLong = byteLength(source) > SCRIPT_BYTES;
  return {
    ...{ saved, language, source, line, busy, unsaved, tooLong, error },
    ...{ edit, chooseLanguage, save, turn, remove, setLine },
  };
}

const NAMES: Record<Language, string> = { python: "Python", lua: "Lua", jolie: "Jolie" };

function LanguageChoice({ language, onChoose }: { language: Language; onChoose: (language: Language) => void }) {
  const id = useId();
  return (
    <div className="inline-field">
      <label htmlFor={id}>Language</label>
      <select
        id={id}
        value={language}
        onChange={(event) => {
          const chosen = LANGUAGES.find((each) => each === event.target.value);
          if (chosen) onChoose(chosen);
        }}
      >
        {LANGUAGES.map((each) => (
          <option key={each} value={each}>
            {NAMES[each]}
          </option>
        ))}
      </select>
    </div>
  );
}

/** Takes a file from this machine into the editor; nothing is saved by it. */
function FileButton({ onText }: { onText: (text: string) => void }) {
  const read = (event: ChangeEvent<HTMLInputElement>) => {
    const file = event.target.files?.[0];
    event.target.value = "";
    if (file) void file.text().then(onText);
  };
  return (
    <label className="secondary file-button">
      Open a file
      <input type="file" className="unseen" accept=".py,.lua,.ol,.txt,text/*" onChange={read} />
    </label>
  );
}
