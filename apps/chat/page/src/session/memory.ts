/**
 * What the browser keeps between visits: the login, drafts, messages not yet accepted, the look.
 * A browser may refuse to keep anything (private windows, full disks); the page then works without memory.
 */
import type { Outgoing } from "../model/chat.ts";
import type { Login } from "../model/types.ts";

export type Theme = "system" | "light" | "dark";

export const LOGIN_KEY = "chat.login";
const THEME = "chat.theme";

export class Memory {
  readonly #storage: Storage;

  constructor(storage: Storage) {
    this.#storage = storage;
  }

  get login(): Login | null {
    return this.#read(LOGIN_KEY) as Login | null;
  }

  keepLogin(login: Login): void {
    this.#write(LOGIN_KEY, login);
  }

  get theme(): Theme {
    return (this.#read(THEME) as Theme | null) ?? "system";
  }

  keepTheme(theme: Theme): void {
    this.#write(THEME, theme === "system" ? null : theme);
  }

  draft(user: number, conversationId: string): string {
    return (this.#read(`chat.draft.${user}.${conversationId}`) as string | null) ?? "";
  }

  keepDraft(user: number, conversationId: string, text: string): void {
    this.#write(`chat.draft.${user}.${conversationId}`, text || null);
  }

  /** Messages that no server had accepted when the page was left, the oldest first. */
  outbox(user: number): Outgoing[] {
    return this.#keys(`chat.outbox.${user}.`)
      .map((key) => this.#read(key) as Outgoing | null)
      .filter((outgoing) => outgoing !== null)
      .sort((a, b) => a.composedAt - b.composedAt);
  }

  keepOutgoing(user: number, outgoing: Outgoing): void {
    this.#write(`chat.outbox.${user}.${outgoing.messageUid}`, outgoing);
  }

  dropOutgoing(user: number, messageUid: string): void {
    this.#write(`chat.outbox.${user}.${messageUid}`, null);
  }

  /** Forgets the login and everything written by this user. */
  forget(user: number): void {
    this.#write(LOGIN_KEY, null);
    for (const key of [...this.#keys(`chat.draft.${user}.`), ...this.#keys(`chat.outbox.${user}.`)]) {
      this.#write(key, null);
    }
  }

  #keys(prefix: string): string[] {
    return Object.keys(this.#storage).filter((key) => key.startsWith(prefix));
  }

  #read(key: string): unknown {
    try {
      return JSON.parse(this.#storage.getItem(key) ?? "null") as unknown;
    } catch (error) {
      console.warn(`${key} can't be read:`, error);
      return null;
    }
  }

  #write(key: string, value: unknown): void {
    try {
      if (value === null) this.#storage.removeItem(key);
      else this.#storage.setItem(key, JSON.stringify(value));
    } catch (error) {
      console.warn(`${key} can't be kept:`, error);
    }
  }
}
