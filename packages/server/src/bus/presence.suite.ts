/** The contract of {@link PresenceBoard}: every implementation runs it. */
import { expect, it } from 'vitest';
import type { Bus, Presence } from './ports/bus.ts';

const ids = (entries: readonly Presence[]): string[] => entries.map((entry) => entry.id);

export function presenceSuite(open: () => Promise<Pick<Bus, 'presence'>>): void {
  it('lists the holders of a key, oldest first, the newcomer included', async () => {
    const { presence } = await open();
    expect(ids(await presence.join('k', 'a'))).toEqual(['a']);
    expect(ids(await presence.join('k', 'b'))).toEqual(['a', 'b']);
    expect(ids(await presence.join('other', 'c'))).toEqual(['c']);
    expect(ids(await presence.list('k'))).toEqual(['a', 'b']);
  });

  it('counts a holder once, however often it joins', async () => {
    const { presence } = await open();
    await presence.join('k', 'a');
    await presence.join('k', 'b');
    expect(ids(await presence.join('k', 'a'))).toEqual(['a', 'b']);
  });

  it('forgets who left; leaving twice or without joining does nothing', async () => {
    const { presence } = await open();
    await presence.join('k', 'a');
    await presence.join('k', 'b');
    await presence.leave('k', 'a');
    await presence.leave('k', 'a');
    await presence.leave('none', 'a');
    expect(ids(await presence.list('k'))).toEqual(['b']);
  });

  it('says who holds a place, by process and since when', async () => {
    const { presence } = await open();
    const [first] = await presence.join('k', 'a');
    expect(first?.instance).toMatch(/^[^/]+$/);
    const again = await presence.join('k', 'a');
    expect(again).toEqual([first]);
    expect(await presence.list('k')).toEqual([first]);
  });

  it('answers nobody while no more than asked for are there, and all of them from then on', async () => {
    const { presence } = await open();
    expect(await presence.join('k', 'a', 2)).toEqual([]);
    expect(await presence.join('k', 'b', 2)).toEqual([]);
    expect(ids(await presence.join('k', 'c', 2))).toEqual(['a', 'b', 'c']);
    await presence.leave('k', 'a');
    expect(await presence.join('k', 'c', 2)).toEqual([]);
    expect(ids(await presence.list('k'))).toEqual(['b', 'c']);
  });

  it('lets only as many of many simultaneous newcomers see themselves within a limit', async () => {
    const { presence } = await open();
    const answers = await Promise.all(Array.from({ length: 20 }, (_, n) => presence.join('k', `c${n}`)));
    expect(answers.filter((entries) => entries.length <= 5)).toHaveLength(5);
  });
}
