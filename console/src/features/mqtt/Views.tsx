import { Views as AllViews } from "@/components/Views";

const views = [
  ["/mqtt", "Sessions"],
  ["/mqtt/topics", "Topics"],
  ["/mqtt/retained", "Retained messages"],
  ["/mqtt/live", "Live messages"],
] as const;

/** The four ways to look at MQTT. */
export const Views = ({ here }: { here: (typeof views)[number][0] }) => <AllViews label="Views of MQTT" views={views} here={here} />;

export { MissingGateways as Missing } from "@/components/MissingGateways";
