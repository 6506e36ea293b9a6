// node.mjs STEP SETTINGS: runs one step of the scenario in Node.
import mqtt from 'mqtt';
import { Scenario } from './scenario.mjs';

const [, , step, settings] = process.argv;
await new Scenario(mqtt, JSON.parse(settings))[step]();
process.exit(0);
