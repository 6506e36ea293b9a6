import { ArrowLeft, ChevronDown, ChevronUp } from "lucide-react";
import { Link, useLocation, useParams } from "wouter";
import { IconButton } from "@/components/Button";
import { Page } from "@/components/Page";
import { useHotkeys } from "@/hooks/hotkeys";
import { useHref } from "@/hooks/url";
import { useExchange } from "./api";
import { ExchangeDetail, verdictOf } from "./ExchangeDetail";
import { neighbour } from "./walk";

/** One exchange on a page of its own; j and k, or ] and [, walk the list that one came from. */
export default function ExchangePage() {
  const { instance = "" } = useParams<{ instance: string }>();
  const href = useHref();
  const { data } = useExchange(instance);
  const [, navigate] = useLocation();
  const older = neighbour(instance, 1);
  const newer = neighbour(instance, -1);
  const go = (to: string | undefined) => to && navigate(href(`/traffic/${encodeURIComponent(to)}`), { replace: true });
  useHotkeys([
    { keys: "j", label: "Older exchange", run: () => go(older) },
    { keys: "]", label: "Older exchange", run: () => go(older) },
    { keys: "k", label: "Newer exchange", run: () => go(newer) },
    { keys: "[", label: "Newer exchange", run: () => go(newer) },
  ]);
  return (
    <Page
      title={`Exchange ${instance}`}
      sentence={data && verdictOf(data.exchange)}
      actions={
        <>
          <Link href={href("/traffic")} className="link inline-flex h-8 items-center gap-1.5 pr-2">
            <ArrowLeft size={16} aria-hidden /> All traffic
          </Link>
          {(older ?? newer) && (
            <>
              <IconButton icon={ChevronUp} label="Newer exchange" keys="k" disabled={!newer} onClick={() => go(newer)} />
              <IconButton icon={ChevronDown} label="Older exchange" keys="j" disabled={!older} onClick={() => go(older)} />
            </>
          )}
        </>
      }
    >
      <div className="rounded border border-line bg-surface p-4">
        <h2 className="sr-only">What happened</h2>
        <ExchangeDetail key={instance} instance={instance} wide />
      </div>
    </Page>
  );
}
