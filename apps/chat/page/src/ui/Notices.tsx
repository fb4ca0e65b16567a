import { useEffect, useState } from "react";
import { fullTime } from "../model/time.ts";
import { Empty } from "./controls.tsx";
import { useChat, useSession } from "./hooks.ts";
import { PageHead } from "./PageHead.tsx";

/** What happened to one's account, the newest first. Looking at it marks it read; what was new on arrival stays marked. */
export function Notices() {
  const session = useSession();
  const { notices } = useChat();
  const [newFrom] = useState(() => notices.findLast(({ read }) => !read)?.number ?? Infinity);
  useEffect(() => {
    session.markNoticesRead();
  }, [session, notices]);
  return (
    <>
      <PageHead title="Notices" />
      {notices.length === 0 ? (
        <Empty title="No notices">
          <p>Logins to your account show up here.</p>
        </Empty>
      ) : (
        <ol className="notices">
          {notices.map(({ number, body, at }) => (
            <li key={number} data-new={number >= newFrom}>
              <p dir="auto">{body}</p>
              <time dateTime={new Date(at).toISOString()}>{fullTime(at)}</time>
            </li>
          ))}
        </ol>
      )}
    </>
  );
}
