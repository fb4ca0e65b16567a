import { useEffect } from "react";
import type { ChatState, Thread } from "../model/chat.ts";
import { conversationName, otherParticipants, personName } from "../model/names.ts";
import { Composer } from "./Composer.tsx";
import { Empty } from "./controls.tsx";
import { useChat, useSession } from "./hooks.ts";
import { MessageList } from "./MessageList.tsx";
import { PageHead } from "./PageHead.tsx";

export function ConversationView({ conversationId }: { conversationId: string }) {
  const session = useSession();
  const state = useChat();
  const thread = state.threads[conversationId];
  const known = thread !== undefined;

  useEffect(() => {
    if (known) session.open(conversationId);
    return () => {
      session.open(null);
    };
  }, [session, conversationId, known]);

  if (!thread) {
    return (
      <>
        <PageHead title="Conversation" />
        <Empty title="There is no such conversation">
          <p>It may belong to somebody else, or the address is incomplete.</p>
        </Empty>
      </>
    );
  }
  return (
    <>
      <PageHead title={conversationName(state, thread)}>
        <p className="page-subtitle">{about(state, thread)}</p>
      </PageHead>
      <MessageList thread={thread} />
      <Composer conversationId={conversationId} />
    </>
  );
}

/** Whether the other one is here; for a group, who belongs to it. */
function about(state: ChatState, thread: Thread): string {
  const others = otherParticipants(thread, state.me);
  const [only] = others;
  if (others.length === 1 && only !== undefined) return state.people[only]?.online ? "online" : "offline";
  const names = others.map((id) => personName(state.people[id], id));
  return new Intl.ListFormat().format(["You", ...names]);
}
