import { Download, FileUp, Upload } from "lucide-react";
import { useQueryClient } from "@tanstack/react-query";
import { useEffect, useRef, useState, type DragEvent } from "react";
import { asProblem, type ApiProblem } from "@/api/problem";
import { ToneIcon } from "@/components/Badge";
import { Button } from "@/components/Button";
import { Dialog, DialogActions, DialogBody } from "@/components/Dialog";
import { Field, Textarea } from "@/components/Field";
import { ProblemNotice } from "@/components/ProblemNotice";
import { formatBytes, formatCount, plural } from "@/lib/format";
import { deviceKeys } from "./api";
import { emptyImport, importDevices, preview, type ImportMode, type ImportState } from "./import";

const mostPreviewed = 4 << 20; // characters; a larger file is only sent

/** Registers many devices: a file or pasted lines go up, tokens come back as a file. */
export default function ImportDevices({ onClose }: { onClose: () => void }) {
  const [file, setFile] = useState<File>();
  const [text, setText] = useState("");
  const [mode, setMode] = useState<ImportMode>("good");
  const [state, setState] = useState<ImportState>();
  const [problem, setProblem] = useState<ApiProblem>();
  const [running, setRunning] = useState(false);
  const [saved, setSaved] = useState(false);
  const controller = useRef<AbortController | undefined>(undefined);
  const client = useQueryClient();
  useEffect(() => () => controller.current?.abort(), []);

  const choose = async (chosen: File) => {
    setFile(chosen);
    setText(chosen.size <= mostPreviewed ? await chosen.text() : "");
  };
  const start = async () => {
    controller.current = new AbortController();
    setProblem(undefined);
    setState(emptyImport);
    setRunning(true);
    try {
      setState(await importDevices(text || file!, mode, setState, controller.current.signal));
    } catch (error) {
      setState(undefined);
      if (!controller.current.signal.aborted) setProblem(asProblem(error));
    } finally {
      setRunning(false);
      void client.invalidateQueries({ queryKey: deviceKeys.all });
      void client.invalidateQueries({ queryKey: ["status"] });
    }
  };
  const seen = preview(text);
  const ended = state && !running;
  const unsaved = ended && state.tokens.length > 0 && !saved;
  return (
    <Dialog
      open
      onClose={() => !running && !unsaved && onClose()}
      title="Import devices"
      description="One JSON object on each line, with an id, and with a model and firmware where you know them."
      width="wide"
    >
      <DialogBody>
        {!state && (
          <>
            <DropPlace file={file} onFile={(f) => void choose(f)} />
            {!(file && !text) && (
              <Field label={file ? `Lines of ${file.name}` : "Or paste the lines"} hint={text ? <Preview seen={seen} /> : undefined}>
                <Textarea
                  value={text}
                  spellCheck={false}
                  className="min-h-36 font-mono text-xs"
                  placeholder={'{"id": "pump-17", "model": "P3", "firmware": "1.8.3"}\n{"id": "pump-18", "model": "P3"}'}
                  onChange={(e) => {
                    setText(e.target.value);
                    setFile(undefined);
                  }}
                />
              </Field>
            )}
            <fieldset className="flex flex-col gap-2">
              <legend className="mb-1.5 font-medium">When lines are refused</legend>
              {([["good", "Register the good ones", "The others are listed with the number of their line."], ["all", "Register none", "Nothing is registered unless every line is good."]] as const).map(([value, label, hint]) => (
                <label key={value} className="flex gap-2">
                  <input type="radio" name="mode" className="mt-0.5" checked={mode === value} onChange={() => setMode(value)} />
                  <span>
                    {label} <span className="block text-quiet">{hint}</span>
                  </span>
                </label>
              ))}
            </fieldset>
          </>
        )}
        {state && <Progress state={state} running={running} expected={seen.devices} />}
        {problem && <ProblemNotice problem={problem} />}
      </DialogBody>
      <DialogActions>
        {ended ? (
          <>
            {state.tokens.length > 0 && (
              <Button kind={saved ? "secondary" : "primary"} icon={Download} onClick={() => { save(state.tokens); setSaved(true); }}>
                Download {plural(state.tokens.length, "token")}
              </Button>
            )}
            <Button kind={unsaved ? "quiet" : "primary"} onClick={onClose}>{unsaved ? "Close without the tokens" : "Done"}</Button>
          </>
        ) : (
          <>
            <Button onClick={running ? () => controller.current?.abort() : onClose}>{running ? "Stop" : "Cancel"}</Button>
            <Button kind="primary" icon={Upload} busy={running} disabled={!text.trim() && !file} onClick={() => void start()}>
              Import{seen.devices > 0 ? ` ${plural(seen.devices, "device")}` : ""}
            </Button>
          </>
        )}
      </DialogActions>
    </Dialog>
  );
}

function DropPlace({ file, onFile }: { file: File | undefined; onFile: (file: File) => void }) {
  const input = useRef<HTMLInputElement>(null);
  const [over, setOver] = useState(false);
  const drop = (event: DragEvent) => {
    event.preventDefault();
    setOver(false);
    const dropped = event.dataTransfer.files[0];
    if (dropped) onFile(dropped);
  };
  return (
    <div
      className={`flex flex-wrap items-center gap-3 rounded border border-dashed px-3 py-3 ${over ? "border-accent bg-accent-tint" : "border-control"}`}
      onDragOver={(event) => {
        event.preventDefault();
        setOver(true);
      }}
      onDragLeave={() => setOver(false)}
      onDrop={drop}
    >
      <FileUp size={16} className="text-icon" aria-hidden />
      <p className="min-w-0 flex-1">
        {file ? (
          <>
            <span className="font-medium">{file.name}</span> <span className="text-quiet">{formatBytes(file.size)}</span>
          </>
        ) : (
          "Drop an NDJSON file here"
        )}
      </p>
      <Button onClick={() => input.current?.click()}>{file ? "Another file" : "Choose a file"}</Button>
      <input
        ref={input}
        type="file"
        accept=".ndjson,.jsonl,.json,.txt,application/x-ndjson"
        className="hidden"
        aria-label="File of devices"
        onChange={(e) => e.target.files?.[0] && onFile(e.target.files[0])}
      />
    </div>
  );
}

function Preview({ seen }: { seen: ReturnType<typeof preview> }) {
  return (
    <>
      {plural(seen.devices, "device")}.{" "}
      {seen.wrong.length > 0 && (
        <span className="text-bad">{seen.wrong.map(({ line, why }) => `Line ${line} ${why}`).join("; ")}.</span>
      )}
    </>
  );
}

function Progress({ state, running, expected }: { state: ImportState; running: boolean; expected: number }) {
  const { summary } = state;
  const done = Math.max(state.checked, state.added + state.refusedCount);
  return (
    <div className="flex flex-col gap-3">
      {running && (
        <>
          <p role="status" className="tabular">
            {expected > 0 ? `${formatCount(Math.min(done, expected))} of ${formatCount(expected)}` : formatCount(done)} looked at, {formatCount(state.added)} registered
            {state.refusedCount > 0 && `, ${formatCount(state.refusedCount)} refused`}
          </p>
          <progress aria-label="Import" className="h-1.5 w-full accent-[var(--accent)]" {...(expected > 0 && { value: Math.min(done, expected), max: expected })} />
        </>
      )}
      {!running && (
        <p className="flex items-start gap-2 font-medium">
          <ToneIcon tone={!summary ? "bad" : summary.refused > 0 ? "warning" : "good"} />
          <span>
            {!summary && `The answer was cut off after ${plural(state.tokens.length, "device")}: what has a token here is registered. Import the file again; ids that are registered are then refused.`}
            {summary?.applied && `${plural(summary.added, "device is", "devices are")} registered${summary.refused > 0 ? `, ${plural(summary.refused, "line was", "lines were")} refused` : ""}.`}
            {summary && !summary.applied && `Nothing is registered: ${plural(summary.refused, "line was", "lines were")} refused.`}
          </span>
        </p>
      )}
      {!running && state.tokens.length > 0 && <p className="text-soft">Download the tokens now: they are shown only this once, and only their hashes are kept.</p>}
      {state.refused.length > 0 && (
        <div tabIndex={0} role="group" aria-label="Refused lines" className="max-h-64 overflow-y-auto rounded border border-line">
          <table className="w-full text-left">
            <thead>
              <tr className="text-xs text-quiet">
                <th scope="col" className="px-3 py-1 font-medium">Line</th>
                <th scope="col" className="px-3 py-1 font-medium">Device</th>
                <th scope="col" className="px-3 py-1 font-medium">Why it was refused</th>
              </tr>
            </thead>
            <tbody>
              {state.refused.map(({ line, id, why }) => (
                <tr key={line} className="border-t border-line align-top">
                  <td className="px-3 py-1 tabular">{line}</td>
                  <td className="px-3 py-1 font-mono text-xs break-all">{id}</td>
                  <td className="px-3 py-1">{why}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {state.refusedCount > state.refused.length && <p className="text-quiet">And {formatCount(state.refusedCount - state.refused.length)} more.</p>}
    </div>
  );
}

/** A file that is made here: no secret goes through an address. */
function save(tokens: readonly string[]) {
  const url = URL.createObjectURL(new Blob([...tokens], { type: "application/x-ndjson" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = "device-tokens.ndjson";
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
