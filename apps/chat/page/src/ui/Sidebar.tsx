import { type RefObject, useState } from "react";
import { unreadNotices } from "../model/names.ts";
import { Badge, Loading } from "./controls.tsx";
import { useChat, useSession, useStore } from "./hooks.ts";
import { Icon } from "./icons.tsx";
import { ConversationList, PeopleList } from "./lists.tsx";
import { type Route, href } from "./route.ts";

interface SidebarProps {
  route: Route;
  search: RefObject<HTMLInputElement | null>;
  onNewGroup: () => void;
  onHelp: () => void;
  onLogOut: () => void;
}

export function Sidebar({ route, search, onNewGroup, onHelp, onLogOut }: SidebarProps) {
  const [filter, setFilter] = useState("");
  const loading = useStore(useSession().loadState) !== "ready";
  const Brand = route.view === "home" ? "h1" : "p";
  return (
    <nav className="sidebar" aria-label="Conversations and people">
      <header className="sidebar-head">
        <Brand className="brand">Chat</Brand>
        <ConnectionMark />
        <button
          type="button"
          className="ghost square"
          aria-label="New group"
          title="New group (Alt+N)"
          onClick={onNewGroup}
        >
          <Icon name="group" />
        </button>
      </header>
      <div className="search">
        <Icon name="search" />
        <input
          ref={search}
          type="search"
          aria-label="Find people and conversations"
          placeholder="Find"
          value={filter}
          onChange={(event) => {
            setFilter(event.target.value);
          }}
        />
      </div>
      <div className="lists">
        {loading ? (
          <Loading what="your conversations" />
        ) : (
          <>
            <ConversationList filter={filter} route={route} />
            <PeopleList filter={filter} />
          </>
        )}
      </div>
      <Foot route={route} onHelp={onHelp} onLogOut={onLogOut} />
    </nav>
  );
}

function ConnectionMark() {
  const connection = useStore(useSession().connectionState);
  return (
    <span className="connection-mark" data-state={connection}>
      {connection === "online" ? "Connected" : "Not connected"}
    </span>
  );
}

function Foot({ route, onHelp, onLogOut }: Pick<SidebarProps, "route" | "onHelp" | "onLogOut">) {
  const { username } = useStore(useSession().login);
  const notices = unreadNotices(useChat());
  const current = (view: Route["view"]) => (route.view === view ? "page" : undefined);
  return (
    <footer className="sidebar-foot">
      <span className="me" title={`Logged in as ${username}`}>
        <bdi>{username}</bdi>
      </span>
      <a className="ghost square" href={href({ view: "notices" })} aria-current={current("notices")} title="Notices">
        <Icon name="bell" />
        <span className="unseen">Notices</span>
        <Badge count={notices} what="unread" />
      </a>
      <a
        className="ghost square"
        href={href({ view: "settings", section: "appearance" })}
        aria-current={current("settings")}
        aria-label="Settings"
        title="Settings"
      >
        <Icon name="settings" />
      </a>
      <button
        type="button"
        className="ghost square"
        aria-label="Keyboard shortcuts"
        title="Keyboard shortcuts (Ctrl+/)"
        onClick={onHelp}
      >
        <Icon name="help" />
      </button>
      <button type="button" className="ghost square" aria-label="Log out" title="Log out" onClick={onLogOut}>
        <Icon name="leave" />
      </button>
    </footer>
  );
}
