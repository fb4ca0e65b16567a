/**
 * CodeMirror with Python and Lua.
 *
 * It lives in a shadow root: there it brings its styles as constructed style sheets, which a content security policy of
 * `style-src 'self'` lets pass, where style elements in the document are refused.
 */
import { defaultKeymap, history, historyKeymap, indentWithTab } from "@codemirror/commands";
import { HighlightStyle, StreamLanguage, bracketMatching, indentUnit, syntaxHighlighting } from "@codemirror/language";
import { lua } from "@codemirror/legacy-modes/mode/lua";
import { python } from "@codemirror/legacy-modes/mode/python";
import { Compartment, EditorState, type Extension, StateEffect, StateField } from "@codemirror/state";
import {
  Decoration,
  type DecorationSet,
  EditorView,
  highlightActiveLine,
  highlightActiveLineGutter,
  keymap,
  lineNumbers,
} from "@codemirror/view";
import { tags } from "@lezer/highlight";
import type { Language } from "../../model/types.ts";

export interface Editor {
  setText(text: string): void;
  setLanguage(language: Language): void;
  markLine(line: number | null): void;
  close(): void;
}

const SUPPORT: Record<Language, Extension> = {
  python: [StreamLanguage.define(python), indentUnit.of("    ")],
  lua: [StreamLanguage.define(lua), indentUnit.of("  ")],
  jolie: indentUnit.of("  "),
};

const highlighting = HighlightStyle.define([
  { tag: [tags.keyword, tags.operatorKeyword], color: "var(--code-keyword)" },
  { tag: [tags.string, tags.special(tags.string)], color: "var(--code-string)" },
  { tag: [tags.number, tags.bool, tags.atom, tags.null], color: "var(--code-number)" },
  { tag: tags.comment, color: "var(--text-quiet)", fontStyle: "italic" },
  { tag: [tags.definition(tags.variableName), tags.function(tags.variableName)], color: "var(--code-name)" },
]);

const look = EditorView.theme({
  "&": { backgroundColor: "var(--surface)", color: "var(--text)", fontSize: "0.875rem", height: "100%" },
  "&.cm-focused": { outline: "2px solid var(--focus)", outlineOffset: "-1px" },
  ".cm-scroller": { fontFamily: "var(--font-code)", lineHeight: "1.6" },
  ".cm-content": { caretColor: "var(--text)", padding: "0.75rem 0" },
  ".cm-gutters": {
    backgroundColor: "var(--surface)",
    color: "var(--text-quiet)",
    border: "none",
    paddingLeft: "0.5rem",
  },
  ".cm-activeLine, .cm-activeLineGutter": { backgroundColor: "var(--hover)" },
  ".cm-faultyLine": { backgroundColor: "var(--danger-soft)" },
});

const markFault = StateEffect.define<number | null>();

const faultyLine = StateField.define<DecorationSet>({
  create: () => Decoration.none,
  update(marks, transaction) {
    const marked = transaction.effects.find((effect) => effect.is(markFault));
    if (!marked) return transaction.docChanged ? Decoration.none : marks;
    const { doc } = transaction.state;
    const line = marked.value;
    if (line === null || line < 1 || line > doc.lines) return Decoration.none;
    return Decoration.set(Decoration.line({ class: "cm-faultyLine" }).range(doc.line(line).from));
  },
  provide: (field) => EditorView.decorations.from(field),
});

/** Opens an editor in `host`; `changed` is told what the user, and nobody else, makes of the text. */
export function openEditor(host: HTMLElement, changed: (text: string) => void): Editor {
  const language = new Compartment();
  let told = "";
  const extensions = [
    [lineNumbers(), highlightActiveLine(), highlightActiveLineGutter(), bracketMatching(), history()],
    keymap.of([...defaultKeymap, ...historyKeymap, indentWithTab]),
    [language.of([]), syntaxHighlighting(highlighting), look, faultyLine],
    EditorView.contentAttributes.of({ "aria-label": "Script", tabindex: "0" }),
    EditorView.updateListener.of((update) => {
      const text = update.state.doc.toString();
      if (!update.docChanged || text === told) return;
      told = text;
      changed(text);
    }),
  ];
  const root = host.shadowRoot ?? host.attachShadow({ mode: "open" });
  const view = new EditorView({ state: EditorState.create({ extensions }), parent: root, root });
  return {
    setText(text) {
      const held = view.state.doc.toString();
      told = text;
      if (text !== held) view.dispatch({ changes: { from: 0, to: held.length, insert: text } });
    },
    setLanguage(name) {
      view.dispatch({ effects: language.reconfigure(SUPPORT[name]) });
    },
    markLine(line) {
      const place = line !== null && line >= 1 && line <= view.state.doc.lines ? view.state.doc.line(line).from : null;
      const effects: StateEffect<unknown>[] = [markFault.of(line)];
      if (place !== null) effects.push(EditorView.scrollIntoView(place, { y: "center" }));
      view.dispatch({ effects });
    },
    close() {
      view.destroy();
    },
  };
}
