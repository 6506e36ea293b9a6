import { FileUp } from "lucide-react";
import { useEffect, useState, type ReactNode } from "react";

/** Takes a file that is dropped anywhere on the page. */
export function Dropzone({ onFile, refused, children }: { onFile: (file: File) => void; refused?: string; children: ReactNode }) {
  const [over, setOver] = useState(false);
  useEffect(() => {
    let depth = 0; // enter and leave come for each element below the pointer
    const carriesFile = (event: DragEvent) => event.dataTransfer?.types.includes("Files") ?? false;
    const enter = (event: DragEvent) => {
      if (!carriesFile(event)) return;
      event.preventDefault();
      depth++;
      setOver(true);
    };
    const leave = () => {
      depth = Math.max(0, depth - 1);
      if (depth === 0) setOver(false);
    };
    const hover = (event: DragEvent) => carriesFile(event) && event.preventDefault();
    const drop = (event: DragEvent) => {
      depth = 0;
      setOver(false);
      if (!carriesFile(event)) return;
      event.preventDefault();
      const file = event.dataTransfer?.files[0];
      if (file && !refused) onFile(file);
    };
    window.addEventListener("dragenter", enter);
    window.addEventListener("dragleave", leave);
    window.addEventListener("dragover", hover);
    window.addEventListener("drop", drop);
    return () => {
      window.removeEventListener("dragenter", enter);
      window.removeEventListener("dragleave", leave);
      window.removeEventListener("dragover", hover);
      window.removeEventListener("drop", drop);
    };
  }, [onFile, refused]);
  return (
    <>
      {children}
      {over && (
        <div className="pointer-events-none fixed inset-3 z-40 grid place-items-center rounded-lg border-2 border-dashed border-accent bg-surface/90">
          <p className="flex items-center gap-2 text-lg font-medium">
            <FileUp size={20} className="text-accent" aria-hidden />
            {refused ?? "Drop the contract here: you see what it would change before anything is published."}
          </p>
        </div>
      )}
    </>
  );
}
