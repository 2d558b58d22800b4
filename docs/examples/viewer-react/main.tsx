/** The page: a token from the application's own sign-in, which `data-token` of the root element stands for here. */
import { accessToken } from '@tocsin/client';
import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { AlertBoard } from './alert-board.tsx';
import { createAlertStore } from './alert-store.ts';

const root = document.querySelector<HTMLElement>('#root');
if (root === null) throw new Error('the page has no #root');
const store = createAlertStore({
  url: location.origin,
  credentials: accessToken(() => root.dataset['token'] ?? ''),
});
createRoot(root).render(
  <StrictMode>
    <AlertBoard store={store} />
  </StrictMode>,
);
