import './tokens.css';
import './base.css';
import './parts.css';
import { mount } from 'svelte';
import App from './App.svelte';
import { connect } from './bridge/connect.js';

const target = document.getElementById('app');
if (target === null) throw new Error('index.html has no #app');
mount(App, { target, props: { api: connect() } });
