import { MutationCache, QueryCache, QueryClient, QueryClientProvider, useQueryClient } from "@tanstack/react-query";
import { lazy, Suspense, useEffect, useState } from "react";
import { EventFeed } from "@/api/events";
import { ApiProblem, asProblem } from "@/api/problem";
import { ErrorBoundary } from "@/components/ErrorBoundary";
import { ProblemNotice } from "@/components/ProblemNotice";
import { Toasts } from "@/components/Toasts";
import { TooltipProvider } from "@/components/Tooltip";
import { EventContext } from "@/hooks/events";
import { takeLinkToken } from "@/session/link";
import { doubtSession, forgetSession, SessionContext, useSessionQuery } from "@/session/session";
import { Frame } from "./Frame";

const SignInPage = lazy(() => import("@/features/sign-in/SignInPage"));
const SetPasswordPage = lazy(() => import("@/features/sign-in/SetPasswordPage"));

function onError(error: unknown) {
  if (error instanceof ApiProblem && error.status === 401) doubtSession(queries);
}

const queries: QueryClient = new QueryClient({
  queryCache: new QueryCache({ onError }),
  mutationCache: new MutationCache({
    onError: (error, _variables, _result, mutation) => {
      // A refused sign-in is no ended session.
      if (mutation.meta?.signsIn !== true) onError(error);
    },
  }),
  defaultOptions: {
    // A node on the same machine, or on a site that is cut off, can be reached when the browser thinks that it is offline.
    mutations: { networkMode: "always" },
    queries: {
      networkMode: "always",
      staleTime: 5000,
      retry: (failures, error) => failures < 2 && error instanceof ApiProblem && error.code === "unreachable",
      refetchOnWindowFocus: true,
    },
  },
});

// Taken before anything is drawn, so that it is in the address bar, and in screenshots, no longer than it must.
const linkToken = takeLinkToken();

export function App() {
  return (
    <QueryClientProvider client={queries}>
      <TooltipProvider>
        <>
          <ErrorBoundary>
            <Suspense>
              <SessionGate />
            </Suspense>
          </ErrorBoundary>
          <Toasts />
        </>
      </TooltipProvider>
    </QueryClientProvider>
  );
}

/** Shows the page that the address names to who is signed in, and the sign-in page at the same address to everybody else. */
function SessionGate() {
  const [link, setLink] = useState(linkToken);
  const session = useSessionQuery({ enabled: !link }); // a link makes a session of its own
  const client = useQueryClient();
  const over = session.data === null;
  useEffect(() => {
    if (over) forgetSession(client);
  }, [over, client]);
  if (session.data) {
    return <SessionContext value={session.data}>{session.data.kind === "invited" ? <SetPasswordPage /> : <SignedIn />}</SessionContext>;
  }
  if (session.error) {
    return (
      <main className="mx-auto max-w-lg px-4 pt-24">
        <ProblemNotice problem={asProblem(session.error)} onRetry={() => void session.refetch()} />
      </main>
    );
  }
  return linkToken || over ? <SignInPage link={link} onLinkUsed={() => setLink("")} /> : null;
}

function SignedIn() {
  const client = useQueryClient();
  const [feed] = useState(() => new EventFeed(client));
  useEffect(() => {
    feed.start();
    return () => feed.stop();
  }, [feed]);
  return (
    <EventContext value={feed}>
      <Frame />
    </EventContext>
  );
}
