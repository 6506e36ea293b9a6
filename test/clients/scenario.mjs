// What the npm package mqtt does with the broker, in Node and in browsers: see scenario in mqtt_clients_test.go, whose steps these are.

const patience = 60_000;

/** A connection with what it has received. */
class Peer {
  #received = [];
  #waiting = [];

  constructor(client) {
    this.client = client;
    client.on('message', (topic, payload, packet) => {
      const heard = { topic, payload: payload.toString(), qos: packet.qos, retained: packet.retain, properties: packet.properties ?? {} };
      const next = this.#waiting.shift();
      if (next) next(heard);
      else this.#received.push(heard);
    });
  }

  next() {
    if (this.#received.length > 0) return Promise.resolve(this.#received.shift());
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error('nothing was heard')), patience);
      this.#waiting.push((heard) => { clearTimeout(timer); resolve(heard); });
    });
  }

  async hears(want) {
    const got = await this.next();
    for (const [name, value] of Object.entries({ retained: false, ...want })) {
      if (got[name] !== value) throw new Error(`${name} of what was heard on ${got.topic} is ${String(got[name]).slice(0, 100)}, not ${String(value).slice(0, 100)}`);
    }
    return got;
  }
}

/** The steps with one version of the protocol; settings: url, version, device, token, app, key. */
export class Scenario {
  constructor(mqtt, settings) {
    Object.assign(this, settings);
    this.mqtt = mqtt;
    this.topic = (word) => `c/${this.device}/${word}`;
  }

  async connect(clientId, username, password, more = {}) {
    const client = this.mqtt.connect(this.url, { clientId, username, password, protocolVersion: this.version, reconnectPeriod: 0, manualConnect: true, ...more });
    const peer = new Peer(client);
    await new Promise((resolve, reject) => {
      client.once('connect', resolve);
      client.once('error', reject);
      client.once('close', () => reject(new Error('the broker closed the connection')));
      client.connect();
    });
    client.on('error', () => {});
    return peer;
  }

  asDevice(clientId, more) { return this.connect(clientId, this.device, this.token, more); }
  asApp(clientId) { return this.connect(clientId, this.app, this.key); }

  kept() {
    return this.asDevice(`${this.device}-kept`, this.version === 5 ? { clean: false, properties: { sessionExpiryInterval: 3600 } } : { clean: false });
  }

  async main() {
    const device = await this.asDevice(this.device);
    const app = await this.asApp(`${this.app}-0`);
    await app.client.subscribeAsync(this.topic('up'), { qos: 2 });
    await device.client.subscribeAsync(this.topic('down'), { qos: 2 });
    for (const qos of [0, 1, 2]) {
      for (const [from, to, word] of [[device, app, 'up'], [app, device, 'down']]) {
        await from.client.publishAsync(this.topic(word), `${word} at ${qos}`, { qos });
        await to.hears({ topic: this.topic(word), payload: `${word} at ${qos}`, qos });
      }
    }
    const large = '0123456789abcdef'.repeat(20_000);
    await device.client.publishAsync(this.topic('up'), large, { qos: 1 });
    await app.hears({ payload: large, qos: 1 });

    await device.client.publishAsync(this.topic('status'), 'online', { qos: 1, retain: true });
    await app.client.subscribeAsync(this.topic('status'), { qos: 1 });
    await app.hears({ topic: this.topic('status'), payload: 'online', retained: true });
    const doomed = await this.asDevice(`${this.device}-doomed`, { will: { topic: this.topic('status'), payload: 'offline', qos: 1, retain: true } });
    doomed.client.stream.destroy();
    await app.hears({ topic: this.topic('status'), payload: 'offline', qos: 1 });
    await app.client.endAsync();

    const members = [await this.asApp(`${this.app}-1`), await this.asApp(`${this.app}-2`)];
    const once = new Set();
    for (const member of members) {
      await member.client.subscribeAsync(`$share/group/${this.topic('up')}`, { qos: 1 });
      member.client.on('message', (_, payload) => once.add(payload.toString()));
    }
    let shared = 0;
    for (const member of members) member.client.on('message', () => shared++);
    for (let i = 0; i < 20; i++) await device.client.publishAsync(this.topic('up'), String(i), { qos: 1 });
    for (const end = Date.now() + patience; once.size < 20 && Date.now() < end;) await new Promise((resolve) => setTimeout(resolve, 10));
    if (once.size !== 20 || shared !== 20) throw new Error(`the group heard ${once.size} different messages of 20, ${shared} in all`);
    for (const member of members) await member.client.endAsync();

    // Another device's topic is refused; version 5 says why, 3.1.1 has no word for it.
    const refusal = await device.client.publishAsync('c/other/up', 'x', { qos: 1 }).then((packet) => packet?.reasonCode ?? 0, (error) => error.code);
    if (refusal !== (this.version === 5 ? 0x87 : 0)) throw new Error(`publish to another's topic: ${refusal}`);
    if (this.version === 5) {
      const answers = `fg/${this.device}/answers`;
      await device.client.subscribeAsync(answers, { qos: 1 });
      await device.client.publishAsync(`ask/${this.device}`, '{}', { qos: 1, properties: { contentType: 'application/json', responseTopic: answers, correlationData: 'again' } });
      const answer = await device.next();
      if (answer.properties.userProperties?.status !== '200' || String(answer.properties.correlationData) !== 'again' || !answer.payload.includes('4711')) throw new Error(`the answer is ${JSON.stringify(answer)}`);
    }
    await device.client.endAsync();

    const kept = await this.kept();
    await kept.client.subscribeAsync(this.topic('down'), { qos: 1 });
    await kept.client.endAsync();
    const late = await this.asApp(`${this.app}-3`);
    await late.client.publishAsync(this.topic('down'), 'while away', { qos: 1 });
    await late.client.endAsync();
  }

  /** After the broker was killed. */
  async resumed() {
    const kept = await this.kept();
    await kept.hears({ topic: this.topic('down'), payload: 'while away', qos: 1 });
    await kept.client.endAsync();
  }

  /** After the device was quarantined. */
  async refused() {
    for (const end = Date.now() + patience; Date.now() < end;) {
      try {
        const kept = await this.kept();
        await kept.client.endAsync();
      } catch (error) {
        if (!/authorized/i.test(error.message)) throw error;
        return;
      }
    }
    throw new Error('the device may still connect');
  }

  /** In a page of an origin that may not. */
  async strange() {
    const error = await this.asDevice(this.device).then(() => new Error('the page may connect'), (error) => error);
    if (!/closed the connection|WebSocket/i.test(error.message)) throw error;
  }
}
