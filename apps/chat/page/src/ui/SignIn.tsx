import { type SubmitEvent, useState } from "react";
import type { Login } from "../model/types.ts";
import { Api } from "../net/api.ts";
import { ErrorText, Field } from "./controls.tsx";
import { textOf } from "./forms.ts";
import { useAction } from "./hooks.ts";

const api = new Api((...request) => fetch(...request));

type Mode = "login" | "register";

const WORDS = {
  login: { title: "Log in", submit: "Log in", busy: "Logging in…", other: "Create an account", ask: "New here?" },
  register: {
    title: "Create an account",
    submit: "Create account",
    busy: "Creating…",
    other: "Log in",
    ask: "Been here before?",
  },
} as const;

/** Log in or register; a fresh account is logged in at once. */
export function SignIn({ onLogin }: { onLogin: (login: Login) => void }) {
  const [mode, setMode] = useState<Mode>("login");
  const { busy, error, run } = useAction();
  const words = WORDS[mode];

  const submit = (event: SubmitEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    const text = (name: string) => textOf(form, name);
    run(async () => {
      const username = text("username").trim();
      const password = text("password");
      if (mode === "register") {
        const optional = { name: text("name").trim(), surname: text("surname").trim() };
        await api.register({ username, password, ...withoutEmpty(optional) });
      }
      onLogin(await api.login(username, password));
    });
  };

  return (
    <main className="door">
      <title>{`${words.title} · Chat`}</title>
      <form className="door-card" onSubmit={submit} aria-labelledby="door-title">
        <p className="brand">Chat</p>
        <h1 id="door-title">{words.title}</h1>
        <Field label="Username" name="username" autoComplete="username" autoCapitalize="none" required maxLength={64} />
        <PasswordField key={mode} fresh={mode === "register"} />
        {mode === "register" && <NameFields />}
        <ErrorText text={error} />
        <button type="submit" className="primary" disabled={busy}>
          {busy ? words.busy : words.submit}
        </button>
        <p className="quiet">
          {words.ask}{" "}
          <button
            type="button"
            className="link"
            onClick={() => {
              setMode(mode === "login" ? "register" : "login");
            }}
          >
            {words.other}
          </button>
        </p>
      </form>
    </main>
  );
}

function PasswordField({ fresh }: { fresh: boolean }) {
  const common = { label: "Password", name: "password", type: "password", required: true, maxLength: 128 };
  if (!fresh) return <Field {...common} autoComplete="current-password" />;
  return <Field {...common} autoComplete="new-password" minLength={8} hint="At least 8 characters." />;
}

function NameFields() {
  return (
    <div className="pair">
      <Field label="First name (optional)" name="name" autoComplete="given-name" maxLength={64} />
      <Field label="Last name (optional)" name="surname" autoComplete="family-name" maxLength={64} />
    </div>
  );
}

function withoutEmpty(values: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value));
}
