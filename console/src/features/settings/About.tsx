import { Download } from "lucide-react";
import { asProblem } from "@/api/problem";
import { Skeleton } from "@/components/EmptyState";
import { ProblemNotice } from "@/components/ProblemNotice";
import Reference from "@/components/reference/Reference";
import { useOwnReference, useOwnVersion, useStatus } from "./api";

/** The program, and the contract of its own API: what the console and the command line use. */
export default function About() {
  const status = useStatus();
  const version = useOwnVersion();
  const { data, error, refetch } = useOwnReference(version.data);
  const problem = error ?? version.error;
  return (
    <div className="flex flex-col gap-4">
      <div className="flex flex-wrap items-center gap-x-6 gap-y-2">
        <p className="min-w-0 flex-[1_1_320px] text-soft">
          Fieldgate {status.data?.version}. The console and the command line use the admin API below and nothing else; so can your programs, with an API token.
        </p>
        <a href="/api/v1/openapi.yaml" download="fieldgate.openapi.yaml" className="link inline-flex min-h-6 items-center gap-1.5"><Download size={16} aria-hidden /> Download the contract</a>
      </div>
      {problem && <ProblemNotice problem={asProblem(problem)} onRetry={() => void Promise.all([version.refetch(), refetch()])} />}
      {data ? <Reference document={data} /> : !problem && <Skeleton className="h-80 w-full" />}
    </div>
  );
}
