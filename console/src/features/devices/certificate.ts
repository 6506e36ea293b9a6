const block = /-----BEGIN CERTIFICATE-----[\sA-Za-z0-9+/=]+-----END CERTIFICATE-----/;

/** The first certificate of a PEM text. Nothing else of it is sent: a key may stand beside. */
export const firstCertificate = (text: string): string | undefined => block.exec(text)?.[0];
