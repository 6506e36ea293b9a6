import { blocks, spans } from "./markdown";

/** A description of a contract. */
export function Markdown({ source }: { source: string }) {
  return (
    <div className="flex max-w-[84ch] flex-col gap-2 text-soft">
      {blocks(source).map((block, i) => {
        switch (block.kind) {
          case "heading":
            return <p key={i} className="mt-1 font-semibold text-text">{block.text}</p>;
          case "paragraph":
            return <p key={i}><Line text={block.text} /></p>;
          case "list":
            return (
              <ul key={i} className="list-disc pl-5">
                {block.items.map((item, j) => <li key={j}><Line text={item} /></li>)}
              </ul>
            );
          case "code":
            return <pre key={i} tabIndex={0} aria-label="Code" className="overflow-x-auto rounded border border-line bg-sunken px-3 py-2">{block.text}</pre>;
          case "table":
            return (
              <div key={i} tabIndex={0} role="group" aria-label="Table" className="overflow-x-auto">
                <table className="text-left">
                  <thead>
                    <tr className="text-xs text-quiet">{block.head.map((cell, j) => <th key={j} scope="col" className="py-0.5 pr-5 font-medium"><Line text={cell} /></th>)}</tr>
                  </thead>
                  <tbody>
                    {block.rows.map((row, j) => (
                      <tr key={j} className="border-t border-line align-top">{row.map((cell, k) => <td key={k} className="py-1 pr-5"><Line text={cell} /></td>)}</tr>
                    ))}
                  </tbody>
                </table>
              </div>
            );
        }
      })}
    </div>
  );
}

/** Text with code and emphasis in it. */
export function Line({ text }: { text: string }) {
  return spans(text).map((span, i) => {
    if (span.kind === "code") return <code key={i} className="text-text">{span.text}</code>;
    if (span.kind === "strong") return <strong key={i} className="font-semibold text-text">{span.text}</strong>;
    if (span.kind === "emphasis") return <em key={i}>{span.text}</em>;
    return span.text;
  });
}
