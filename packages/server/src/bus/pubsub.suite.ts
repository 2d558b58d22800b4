/** The contract of {@link PublishSubscribe}: every implementation runs it. */
import { expect, it, vi } from 'vitest';
import type { Bus } from './ports/bus.ts';

export function pubSubSuite(open: () => Promise<Pick<Bus, 'pubsub'>>): void {
  it('delivers to every subscriber of a topic, the publisher included, in order', async () => {
    const { pubsub } = await open();
    const first: string[] = [];
    const second: string[] = [];
    await pubsub.subscribe('t', (payload) => first.push(payload));
    await pubsub.subscribe('t', (payload) => second.push(payload));
    for (const payload of ['a', 'b', 'c']) await pubsub.publish('t', payload);
    await vi.waitFor(() => expect(second).toEqual(['a', 'b', 'c']));
    expect(first).toEqual(['a', 'b', 'c']);
  });

  it('keeps topics apart', async () => {
    const { pubsub } = await open();
    const heard: string[] = [];
    await pubsub.subscribe('t', (payload) => heard.push(payload));
    await pubsub.publish('other', 'x');
    await pubsub.publish('t', 'y');
    await vi.waitFor(() => expect(heard).toEqual(['y']));
  });

  it('does not let a listener that throws harm the others', async () => {
    const { pubsub } = await open();
    const heard: string[] = [];
    await pubsub.subscribe('t', () => {
      throw new Error('no');
    });
    await pubsub.subscribe('t', (payload) => heard.push(payload));
    await pubsub.publish('t', 'x');
    await vi.waitFor(() => expect(heard).toEqual(['x']));
  });

  it('delivers nothing after the end of a subscription, which may be ended twice', async () => {
    const { pubsub } = await open();
    const gone: string[] = [];
    const stays: string[] = [];
    const end = await pubsub.subscribe('t', (payload) => gone.push(payload));
    await pubsub.subscribe('t', (payload) => stays.push(payload));
    await end();
    await end();
    await pubsub.publish('t', 'x');
    await vi.waitFor(() => expect(stays).toEqual(['x']));
    expect(gone).toEqual([]);
  });
}
