/** The small parts that forms and lists are made of. */
import { type ComponentProps, type ReactNode, useId } from "react";
import { initials } from "../model/names.ts";

export function Field({ label, hint, ...input }: { label: string; hint?: string } & ComponentProps<"input">) {
  const id = useId();
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      <input id={id} {...input} aria-describedby={hint ? `${id}-hint` : undefined} />
      {hint && (
        <p id={`${id}-hint`} className="hint">
          {hint}
        </p>
      )}
    </div>
  );
}

/** An error in place. The region stays, so that screen readers hear what comes into it. */
export function ErrorText({ text, children }: { text: string; children?: ReactNode }) {
  return (
    <div role="alert" className="error-slot">
      {text && (
        <p className="error">
          {text} {children}
        </p>
      )}
    </div>
  );
}

export function Switch(props: { label: string; on: boolean; disabled?: boolean; onChange: (on: boolean) => void }) {
  return (
    <button
      type="button"
      role="switch"
      className="switch"
      aria-checked={props.on}
      disabled={props.disabled}
      onClick={() => {
        props.onChange(!props.on);
      }}
    >
      <span className="switch-track" aria-hidden="true" />
      {props.label}
    </button>
  );
}

/** A round mark with someone's initials; `online` adds a dot. The name itself stands beside it. */
export function Avatar({ name, online }: { name: string; online?: boolean | undefined }) {
  return (
    <span className="avatar" data-hue={hue(name)} data-online={online} aria-hidden="true">
      {initials(name)}
    </span>
  );
}

export function Badge({ count, what }: { count: number; what: string }) {
  if (count === 0) return null;
  return (
    <span className="badge">
      {count > 99 ? "99+" : count}
      <span className="unseen"> {what}</span>
    </span>
  );
}

export function Empty({ title, children }: { title: string; children?: ReactNode }) {
  return (
    <div className="empty">
      <p className="empty-title">{title}</p>
      {children}
    </div>
  );
}

export function Loading({ what }: { what: string }) {
  return (
    <p className="loading" role="status">
      Loading {what}…
    </p>
  );
}

const HUES = 6;

function hue(name: string): number {
  let sum = 0;
  for (let at = 0; at < name.length; at += 1) sum += name.charCodeAt(at);
  return sum % HUES;
}
