import { type SubmitEvent, useState } from "react";
import { listedPeople } from "../model/names.ts";
import { textOf } from "./forms.ts";
import { ErrorText, Field } from "./controls.tsx";
import { Dialog } from "./Dialog.tsx";
import { useAction, useChat, useSession } from "./hooks.ts";
import { PersonItem } from "./lists.tsx";
import { go } from "./route.ts";

/** Everybody a message may go to, besides oneself. */
const MOST_MEMBERS = 99;

export function NewGroup({ onClose }: { onClose: () => void }) {
  const session = useSession();
  const [chosen, setChosen] = useState<ReadonlySet<number>>(new Set());
  const { busy, error, run } = useAction();
  const enough = chosen.size >= 2 && chosen.size <= MOST_MEMBERS;

  const toggle = (id: number) => {
    const next = new Set(chosen);
    if (!next.delete(id)) next.add(id);
    setChosen(next);
  };
  const submit = (event: SubmitEvent<HTMLFormElement>) => {
    event.preventDefault();
    const title = textOf(new FormData(event.currentTarget), "title").trim();
    run(async () => {
      const conversationId = await session.converse([...chosen], title);
      onClose();
      go({ view: "conversation", conversationId });
    });
  };

  return (
    <Dialog title="New group" onClose={onClose}>
      <form className="stack" onSubmit={submit}>
        <Field label="Title (optional)" name="title" maxLength={80} autoComplete="off" dir="auto" />
        <MemberChoice chosen={chosen} onToggle={toggle} />
        <ErrorText text={error} />
        <div className="row end">
          <p className="quiet grow" role="status">
            {enough ? `${chosen.size} chosen` : `Choose 2 to ${MOST_MEMBERS} people.`}
          </p>
          <button type="submit" className="primary" disabled={busy || !enough}>
            Create group
          </button>
        </div>
      </form>
    </Dialog>
  );
}

function MemberChoice({ chosen, onToggle }: { chosen: ReadonlySet<number>; onToggle: (id: number) => void }) {
  const [filter, setFilter] = useState("");
  const people = listedPeople(useChat(), filter);
  return (
    <fieldset className="members">
      <legend>People</legend>
      <input
        type="search"
        aria-label="Find people"
        placeholder="Find"
        value={filter}
        onChange={(event) => {
          setFilter(event.target.value);
        }}
      />
      <ul>
        {people.map((person) => (
          <li key={person.id}>
            <label className="item">
              <input
                type="checkbox"
                checked={chosen.has(person.id)}
                onChange={() => {
                  onToggle(person.id);
                }}
              />
              <PersonItem person={person} />
            </label>
          </li>
        ))}
      </ul>
    </fieldset>
  );
}
