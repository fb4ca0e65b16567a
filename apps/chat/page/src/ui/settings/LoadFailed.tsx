import { ErrorText } from "../controls.tsx";

export function LoadFailed({ error, again }: { error: string; again: () => void }) {
  return (
    <ErrorText text={error}>
      <button type="button" className="link" onClick={again}>
        Try again
      </button>
    </ErrorText>
  );
}
