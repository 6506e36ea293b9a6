import { Component, type ReactNode } from "react";
import { asProblem } from "@/api/problem";
import { Button } from "./Button";
import { ProblemNotice } from "./ProblemNotice";

/**
 * Shows what failed in the place of what failed, and leaves the rest of the page in use. Code that cannot be loaded is most often
 * that of the version before an upgrade: reloading the page helps.
 */
export class ErrorBoundary extends Component<{ children: ReactNode }, { error?: unknown }> {
  override state: { error?: unknown } = {};

  static getDerivedStateFromError(error: unknown) {
    return { error };
  }

  override render() {
    if (this.state.error === undefined) return this.props.children;
    return (
      <div className="mx-auto flex max-w-xl flex-col items-start gap-3 px-4 pt-16">
        <ProblemNotice problem={asProblem(this.state.error)} />
        <Button onClick={() => window.location.reload()}>Reload the page</Button>
      </div>
    );
  }
}
