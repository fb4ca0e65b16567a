/** The services' HTTP interface. Every refusal becomes an `ApiError`, also one without an answer (status 0). */
import type {
  AutoReply,
  Conversation,
  Direction,
  InboxEntry,
  Language,
  Login,
  Message,
  Notice,
  Person,
  Script,
  ScriptSource,
  Trial,
  TrialInput,
} from "../model/types.ts";

/** Messages fetched at once, of a history or an inbox. */
export const PAGE = 50;
const ANSWER_WITHIN_MS = 15_000;
const LONGEST_WAIT_S = 3600;

interface Problem {
  title?: string;
  code?: string;
  hint?: string;
  line?: number;
}

export class ApiError extends Error {
  readonly status: number;
  readonly code: string;
  readonly hint: string;
  readonly line: number | null;

  constructor(status: number, problem: Problem, retryAfter: number | null = null) {
    super(problem.title ?? "The server refused the request");
    this.status = status;
    this.code = problem.code ?? "unknown";
    this.hint = retryAfter === null ? (problem.hint ?? "") : `Try again in ${retryAfter} seconds.`;
    this.line = problem.line ?? null;
  }
}

/** What went wrong, in words for the person in front of the page. */
export function explain(error: unknown): string {
  if (!(error instanceof ApiError)) return "Something unexpected went wrong.";
  const what = error.line === null ? error.message : `Line ${error.line}: ${error.message}`;
  return [what, error.hint].map(asSentence).filter(Boolean).join(" ");
}

function asSentence(text: string): string {
  return text && !/[.!?]$/u.test(text) ? `${text}.` : text;
}

type Fetch = typeof globalThis.fetch;
type Query = Record<string, string | number | undefined>;

export class Api {
  readonly #fetch: Fetch;
  #token: string | null;
  /** Told of every answer that says the token is no good. */
  onUnauthorized: () => void = () => undefined;

  constructor(fetch: Fetch, token: string | null = null) {
    this.#fetch = fetch;
    this.#token = token;
  }

  set token(token: string) {
    this.#token = token;
  }

  register(account: { username: string; password: string; name?: string; surname?: string }): Promise<unknown> {
    return this.#call("POST", "/auth-ms/auth/register", account);
  }

  login(username: string, password: string): Promise<Login> {
    return this.#call("POST", "/auth-ms/auth/login", { username, password });
  }

  async people(): Promise<Person[]> {
    return (await this.#call<{ people: Person[] }>("GET", "/web-ms/people")).people;
  }

  async conversations(): Promise<Conversation[]> {
    return (await this.#call<{ conversations: Conversation[] }>("GET", "/messages-ms/conversations")).conversations;
  }

  createConversation(participantIds: number[], title?: string): Promise<Conversation> {
    return this.#call("POST", "/messages-ms/conversations", { participantIds, ...(title && { title }) });
  }

  /** The page of messages before number `before` (or the last page), ascending. */
  async history(conversationId: string, before: number | undefined): Promise<Message[]> {
    const path = `/messages-ms/conversations/${encodeURIComponent(conversationId)}/messages`;
    return (await this.#call<{ messages: Message[] }>("GET", path + query({ before, limit: PAGE }))).messages;
  }

  markRead(conversationId: string, seq: number): Promise<unknown> {
    return this.#call("POST", `/messages-ms/conversations/${encodeURIComponent(conversationId)}/read`, { seq });
  }

  inbox(after: number, limit = PAGE): Promise<{ entries: InboxEntry[]; lastInboxSeq: number }> {
    return this.#call("GET", `/messages-ms/inbox${query({ after, limit })}`);
  }

  async notices(after: number): Promise<Notice[]> {
    const path = `/notifications-ms/notifications${query({ after, limit: PAGE })}`;
    return (await this.#call<{ notifications: Notice[] }>("GET", path)).notifications;
  }

  markNoticesRead(through: number): Promise<unknown> {
    return this.#call("POST", "/notifications-ms/notifications/read", { through });
  }

  autoReply(): Promise<AutoReply> {
    return this.#call("GET", "/autoreply-ms/settings");
  }

  setAutoReplyBody(userId: number, messageBody: string): Promise<AutoReply> {
    return this.#call("POST", "/autoreply-ms/settings", { action: "setBody", args: { userId, messageBody } });
  }

  switchAutoReply(userId: number, enabled: boolean): Promise<AutoReply> {
    const action = enabled ? "enable" : "disable";
    return this.#call("POST", "/autoreply-ms/settings", { action, args: { userId } });
  }

  /** The script of a direction, or null if none was ever uploaded. */
  async script(direction: Direction): Promise<ScriptSource | null> {
    try {
      return await this.#call("GET", `/scripts-ms/scripts/${direction}`);
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) return null;
      throw error;
    }
  }

  saveScript(direction: Direction, language: Language, source: string): Promise<Script> {
    return this.#call("PUT", `/scripts-ms/scripts/${direction}`, { language, source });
  }

  switchScript(direction: Direction, enabled: boolean): Promise<Script> {
    return this.#call("PATCH", `/scripts-ms/scripts/${direction}`, { enabled });
  }

  deleteScript(direction: Direction): Promise<unknown> {
    return this.#call("DELETE", `/scripts-ms/scripts/${direction}`);
  }

  tryScript(direction: Direction, language: Language, source: string, input: TrialInput): Promise<Trial> {
    return this.#call("POST", "/scripts-ms/trials", { direction, language, source, input });
  }

  async #call<Answer>(method: string, path: string, body?: object): Promise<Answer> {
    const signedIn = this.#token;
    const response = await this.#request(method, path, body);
    const content = await contentOf(response);
    if (response.ok) return content as Answer;
    if (response.status === 401 && signedIn) this.onUnauthorized();
    throw new ApiError(response.status, asProblem(content), retryAfter(response));
  }

  async #request(method: string, path: string, body: object | undefined): Promise<Response> {
    const headers = new Headers({ Accept: "application/json, application/problem+json" });
    if (this.#token) headers.set("Authorization", `Bearer ${this.#token}`);
    if (body) headers.set("Content-Type", "application/json");
    const signal = AbortSignal.timeout(ANSWER_WITHIN_MS);
    try {
      return await this.#fetch(path, { method, headers, signal, ...(body && { body: JSON.stringify(body) }) });
    } catch (error) {
      const problem = { code: "unreachable", title: "The server cannot be reached", hint: "Try again in a moment" };
      throw Object.assign(new ApiError(0, problem), { cause: error });
    }
  }
}

/** The answer's JSON; null if it has none, as behind a proxy's own error page. */
async function contentOf(response: Response): Promise<unknown> {
  const isJson = /[/+]json\b/u.test(response.headers.get("Content-Type") ?? "");
  return isJson ? await response.json() : null;
}

function asProblem(content: unknown): Problem {
  return typeof content === "object" && content !== null ? content : {};
}

function retryAfter(response: Response): number | null {
  const seconds = Number(response.headers.get("Retry-After"));
  return seconds > 0 && seconds <= LONGEST_WAIT_S ? Math.ceil(seconds) : null;
}

function query(parameters: Query): string {
  const given = Object.entries(parameters).filter(([, value]) => value !== undefined);
  return `?${new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString()}`;
}
