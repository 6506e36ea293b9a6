import { ArrowLeft } from "lucide-react";
import { Link, useParams } from "wouter";
import { Page } from "@/components/Page";
import { useHref } from "@/hooks/url";
import { useDevice } from "./api";
import { DeviceDetail, StateSentence } from "./DeviceDetail";

/** One device on a page of its own. */
export default function DevicePage() {
  const { device = "" } = useParams<{ device: string }>();
  const href = useHref();
  const { data } = useDevice(device);
  return (
    <Page
      title={`Device ${device}`}
      sentence={data ? <StateSentence device={data.device} /> : undefined}
      actions={
        <Link href={href("/devices")} className="link inline-flex h-8 items-center gap-1.5">
          <ArrowLeft size={16} aria-hidden /> All devices
        </Link>
      }
    >
      <DeviceDetail key={device} id={device} wide />
    </Page>
  );
}
