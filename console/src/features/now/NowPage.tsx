import { Page } from "@/components/Page";

export default function NowPage() {
  return <Page title="Now">{null}</Page>;
}
