import { Page } from "@/components/Page";
import { useUrlParam } from "@/hooks/url";
import { Exchanges } from "./Exchanges";
import { FindingsView } from "./FindingsView";
import { OperationsView } from "./OperationsView";
import { TrafficSentence } from "./TrafficSentence";
import { UndocumentedView } from "./UndocumentedView";
import { ViewLinks } from "./ViewLinks";

/** Traffic: exchanges as they happen, by operation, without a contract, and what was found. */
export default function TrafficPage() {
  const [view] = useUrlParam("view");
  switch (view) {
    case "operations":
      return (
        <Page title="Traffic" fill sentence={<TrafficSentence />}>
          <ViewLinks view="operations" />
          <OperationsView />
        </Page>
      );
    case "undocumented":
      return <UndocumentedView />;
    case "findings":
      return (
        <Page title="Traffic" sentence={<TrafficSentence />}>
          <ViewLinks view="findings" />
          <FindingsView />
        </Page>
      );
    default:
      return <Exchanges />;
  }
}
