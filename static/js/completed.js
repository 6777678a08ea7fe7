// What a page does not say of its instrument where reads need a token: then it is asked for, with the token.
import { getInstruments } from "./api.js";

const USUAL = 2; // decimals, until the chart itself says that there is no such symbol

export async function completed(instrument) {
  if (instrument.price_decimals !== null) return instrument;
  const same = ({ exchange, symbol }) => exchange === instrument.exchange && symbol === instrument.symbol;
  try {
    const { instruments } = await getInstruments();
    const { price_decimals = USUAL, currency = instrument.currency } = instruments.find(same) ?? {};
    return { ...instrument, price_decimals, currency };
  } catch {
    return { ...instrument, price_decimals: USUAL }; // the chart asks again, and says what is wrong
  }
}
