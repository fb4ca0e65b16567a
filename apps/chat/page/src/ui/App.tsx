import { useEffect, useState } from "react";
import type { Login } from "../model/types.ts";
import { type Memory, LOGIN_KEY } from "../session/memory.ts";
import { Session } from "../session/session.ts";
import { Chat } from "./Chat.tsx";
import { SessionContext } from "./hooks.ts";
import { SignIn } from "./SignIn.tsx";
import { browser } from "./surroundings.ts";

/** Either the door or the chat. */
export function App({ memory }: { memory: Memory }) {
  const [session, setSession] = useState<Session | null>(() => resume(memory));

  useEffect(() => {
    if (!session) return;
    void session.start();
    return () => {
      session.stop();
    };
  }, [session]);

  useEffect(() => {
    // Logging out in one tab logs out the others.
    const changed = (event: StorageEvent) => {
      if (event.key === LOGIN_KEY && event.newValue === null) setSession(null);
    };
    addEventListener("storage", changed);
    return () => {
      removeEventListener("storage", changed);
    };
  }, []);

  const logIn = (login: Login) => {
    memory.keepLogin(login);
    setSession(new Session(browser(memory), login));
  };
  const logOut = () => {
    if (session) memory.forget(session.me);
    location.hash = "";
    setSession(null);
  };

  if (!session) return <SignIn onLogin={logIn} />;
  return (
    <SessionContext value={session}>
      <Chat key={session.me} memory={memory} onLogOut={logOut} />
    </SessionContext>
  );
}

function resume(memory: Memory): Session | null {
  const { login } = memory;
  return login && login.expiresAt > Date.now() ? new Session(browser(memory), login) : null;
}
