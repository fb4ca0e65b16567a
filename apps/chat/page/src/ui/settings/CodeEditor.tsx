import { useEffect, useEffectEvent, useRef } from "react";
import type { Language } from "../../model/types.ts";
import { type Editor, openEditor } from "./editor.ts";

interface CodeEditorProps {
  source: string;
  language: Language;
  /** The line to mark as faulty and bring into view. */
  line: number | null;
  onChange: (source: string) => void;
}

/** CodeMirror, in React's hands. Loaded only where scripts are edited. */
export default function CodeEditor({ source, language, line, onChange }: CodeEditorProps) {
  const host = useRef<HTMLDivElement>(null);
  const editor = useRef<Editor>(null);
  const changed = useEffectEvent(onChange);

  useEffect(() => {
    if (!host.current) return;
    const opened = openEditor(host.current, (text) => {
      changed(text);
    });
    editor.current = opened;
    return () => {
      opened.close();
    };
  }, []);
  useEffect(() => {
    editor.current?.setLanguage(language);
  }, [language]);
  useEffect(() => {
    editor.current?.setText(source);
  }, [source]);
  useEffect(() => {
    editor.current?.markLine(line);
  }, [line]);

  return (
    <div className="editor">
      <div ref={host} className="editor-host" />
      <p className="hint">Tab indents; Escape, then Tab leaves the editor.</p>
    </div>
  );
}
