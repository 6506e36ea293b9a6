import { Plus } from "lucide-react";
import type { ReactNode } from "react";
import { Link } from "wouter";
import { asProblem } from "@/api/problem";
import type { SchemaListener } from "@/api/schema.gen";
import { Button } from "@/components/Button";
import { CopyableCode } from "@/components/Copy";
import { Page } from "@/components/Page";
import { ProblemNotice } from "@/components/ProblemNotice";
import { useHref } from "@/hooks/url";
import { useMay } from "@/session/session";
import { firstCommand, useFirstDevice, useFirstOperation } from "./api";

/** An installation that nothing has passed through yet. The page becomes the real one with the first exchange. */
export function FirstExchange({ listeners }: { listeners: readonly SchemaListener[] }) {
  const operation = useFirstOperation();
  const device = useFirstDevice();
  const may = useMay("devices.write");
  const href = useHref();
  return (
    <Page title="Now" sentence="Nothing has passed through this installation yet.">
      <ol className="flex max-w-[760px] flex-col">
        <Step number={1} done={operation.data !== null && operation.data !== undefined} title="Publish a contract">
          {operation.data ? (
            <p className="text-soft">
              There is one: <code>{operation.data.http}</code> can be called.
            </p>
          ) : (
            <>
              <p className="text-soft">
                The contract is the configuration: an OpenAPI or AsyncAPI document says what may be called, by whom and how. Drop one on the{" "}
                <Link href={href("/apis")} className="link">
                  APIs page
                </Link>
                , or publish it by command.
              </p>
              <CopyableCode label="Command that publishes a contract" text="fieldgate api publish my-api.openapi.yaml" />
            </>
          )}
        </Step>
        <Step number={2} done={device.data !== undefined} title="Add a device">
          <p className="text-soft">Each device has a token of its own. You can take it away at any time, and only this device is cut off.</p>
          {may ? (
            <Button icon={Plus} kind={device.data ? "secondary" : "primary"} busy={device.isPending} disabled={device.data !== undefined} onClick={() => device.mutate()}>
              {device.data ? `Added ${device.data.device}` : "Add a device and make its token"}
            </Button>
          ) : (
            <p className="text-soft">Your role may not add devices; ask an operator or owner.</p>
          )}
          {device.error && <ProblemNotice problem={asProblem(device.error)} />}
        </Step>
        <Step number={3} title="Send the first exchange">
          {device.data ? (
            <>
              <CopyableCode label="Command that sends the first exchange" text={firstCommand(listeners, operation.data ?? null, device.data, window.location.hostname)} />
              <p className="text-soft">
                The token in it is shown only now.{" "}
                {operation.data ? "" : "Without a contract it is refused, and you see here why. "}
                This page changes by itself when the exchange arrives.
              </p>
            </>
          ) : (
            <p className="text-soft">A command with the real address and the device's token appears here.</p>
          )}
        </Step>
      </ol>
    </Page>
  );
}

function Step({ number, title, done, children }: { number: number; title: string; done?: boolean; children: ReactNode }) {
  return (
    <li className="flex gap-4 pb-8 last:pb-0">
      <span className={`grid size-7 shrink-0 place-items-center rounded-full border text-sm font-semibold tabular ${done ? "border-good bg-good-tint text-good" : "border-line-strong bg-surface text-soft"}`}>
        {done ? "✓" : number}
      </span>
      <div className="flex min-w-0 flex-1 flex-col items-start gap-2.5 pt-0.5">
        <h2 className="text-lg font-semibold">{title}</h2>
        {children}
      </div>
    </li>
  );
}
