// The pages of the console: where they are, what they are called, by which keys one gets there, and their code, which loads when
// they are first opened.
import { Activity, AppWindow, ArrowLeftRight, Boxes, Cpu, Radio, RadioTower, Server, Settings, type LucideIcon } from "lucide-react";
import { lazy, type ComponentType } from "react";

export interface PageEntry {
  /** Of the rail and palette; the first is that of the main page. */
  path: string;
  label: string;
  icon: LucideIcon;
  keys: string;
  /** At the foot of the rail. */
  foot?: boolean;
  routes: readonly { path: string; page: ComponentType }[];
}

export const pages: readonly PageEntry[] = [
  {
    path: "/",
    label: "Now",
    icon: Activity,
    keys: "g n",
    routes: [{ path: "/", page: lazy(() => import("@/features/now/NowPage")) }],
  },
  {
    path: "/apis",
    label: "APIs",
    icon: Boxes,
    keys: "g a",
    routes: [
      { path: "/apis", page: lazy(() => import("@/features/apis/ApisPage")) },
      { path: "/apis/publish", page: lazy(() => import("@/features/apis/PublishPage")) },
      { path: "/apis/draft", page: lazy(() => import("@/features/apis/DraftPage")) },
      { path: "/apis/:api", page: lazy(() => import("@/features/apis/ApiPage")) },
    ],
  },
  {
    path: "/devices",
    label: "Devices",
    icon: Cpu,
    keys: "g d",
    routes: [
      { path: "/devices", page: lazy(() => import("@/features/devices/DevicesPage")) },
      { path: "/devices/:device", page: lazy(() => import("@/features/devices/DevicePage")) },
    ],
  },
  {
    path: "/apps",
    label: "Apps",
    icon: AppWindow,
    keys: "g p",
    routes: [
      { path: "/apps", page: lazy(() => import("@/features/apps/AppsPage")) },
      { path: "/apps/:app", page: lazy(() => import("@/features/apps/AppPage")) },
    ],
  },
  {
    path: "/upstreams",
    label: "Upstreams",
    icon: Server,
    keys: "g u",
    routes: [
      { path: "/upstreams", page: lazy(() => import("@/features/upstreams/UpstreamsPage")) },
      { path: "/upstreams/:upstream", page: lazy(() => import("@/features/upstreams/UpstreamPage")) },
    ],
  },
  {
    path: "/mqtt",
    label: "MQTT",
    icon: RadioTower,
    keys: "g m",
    routes: [
      { path: "/mqtt", page: lazy(() => import("@/features/mqtt/SessionsPage")) },
      { path: "/mqtt/sessions/:session", page: lazy(() => import("@/features/mqtt/SessionPage")) },
      { path: "/mqtt/topics", page: lazy(() => import("@/features/mqtt/TopicsPage")) },
      { path: "/mqtt/retained", page: lazy(() => import("@/features/mqtt/RetainedPage")) },
      { path: "/mqtt/live", page: lazy(() => import("@/features/mqtt/LivePage")) },
    ],
  },
  {
    path: "/coap",
    label: "CoAP",
    icon: Radio,
    keys: "g c",
    routes: [
      { path: "/coap", page: lazy(() => import("@/features/coap/PeersPage")) },
      { path: "/coap/peers/:peer", page: lazy(() => import("@/features/coap/PeerPage")) },
      { path: "/coap/observations", page: lazy(() => import("@/features/coap/ObservationsPage")) },
      { path: "/coap/transfers", page: lazy(() => import("@/features/coap/TransfersPage")) },
    ],
  },
  {
    path: "/traffic",
    label: "Traffic",
    icon: ArrowLeftRight,
    keys: "g t",
    routes: [
      { path: "/traffic", page: lazy(() => import("@/features/traffic/TrafficPage")) },
      { path: "/traffic/:instance", page: lazy(() => import("@/features/traffic/ExchangePage")) },
    ],
  },
  {
    path: "/settings",
    label: "Settings",
    icon: Settings,
    keys: "g s",
    foot: true,
    routes: [{ path: "/settings", page: lazy(() => import("@/features/settings/SettingsPage")) }],
  },
];
